"""Small PTX programs for the interpreter's tests: a frame around a few instructions, and how to run it.

`apply` runs instructions on arrays: input k is in register %a, %b, %c, %d, the result is taken from %q. `kernel` makes a whole
kernel of a body, `launch` runs it, and `results` gives what its threads leave in %r10.
"""
from __future__ import annotations

import numpy as np

from kernels.cuda import ptx
from kernels.cuda.ptx.operands import DTYPES

HEADER = ".version 8.4\n.target sm_90\n.address_size 64\n"
REGISTERS = """
  .reg .pred %p<10>;
  .reg .b16 %h<20>;
  .reg .b32 %r<40>;
  .reg .f32 %f<20>;
  .reg .b64 %rd<40>;
  .reg .f64 %fd<20>;
"""


def kernel(body: str, parameters: str = "", outside: str = "", name: str = "k") -> str:
    """The text of a kernel; %r1 is the thread in the block, %r2 the thread in the grid (both along x)."""
    return f"""{HEADER}{outside}
.visible .entry {name}({parameters})
{{{REGISTERS}
  mov.u32 %r1, %tid.x;
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mad.lo.s32 %r2, %r3, %r4, %r1;
{body}
  ret;
}}
"""


def line_of(text: str, words: str) -> int:
    """The number of the first line that contains some words."""
    return next(k for k, line in enumerate(text.splitlines(), 1) if words in line)


def array(memory: ptx.Memory, values: np.ndarray) -> int:
    """The address of a fresh allocation that holds an array."""
    address = memory.allocate(values.nbytes)
    memory.write(address, values)
    return address


def launch(text: str, grid, block, *arguments, shared: int = 0, **options):
    """Run the only kernel of a text. Arrays among the arguments are put into memory and given back, after the counts."""
    memory = ptx.Memory()
    places = [(k, array(memory, a), a) for k, a in enumerate(arguments) if isinstance(a, np.ndarray)]
    values = list(arguments)
    for k, address, _ in places:
        values[k] = address
    counts = ptx.load(text).launch(None, grid, block, values, memory, shared, **options)
    return counts, *[memory.read(address, a.nbytes).view(a.dtype).reshape(a.shape) for _, address, a in places]


OUT = ".param .u64 out"
STORE = """  ld.param.u64 %rd38, [out];
  mad.wide.u32 %rd39, %r2, 4, %rd38;
  st.global.u32 [%rd39], %r10;"""


def results(body: str, grid: int, block: int, *arguments, parameters: str = "", outside: str = "", **options) -> np.ndarray:
    """What %r10 holds at the end, for each thread."""
    text = kernel(f"{body}\n{STORE}", f"{OUT}{', ' * bool(parameters)}{parameters}", outside)
    return launch(text, grid, block, np.zeros(grid * block, np.uint32), *arguments, **options)[1]


def apply(instructions: str, inputs: list[tuple[str, np.ndarray]], result: str) -> np.ndarray:
    """What a few instructions leave in %q (of type `result`), one thread for each element of the inputs (kind, array)."""
    n = len(inputs[0][1])
    declared = "".join(f"  .reg .{_register(kind)} %{letter};\n" for letter, (kind, _) in zip("abcd", inputs))
    loads = "".join(f"  ld.param.u64 %rd1, [p{k}];\n  mad.wide.u32 %rd2, %r2, {DTYPES[kind].itemsize}, %rd1;\n"
                    f"  ld.global.{_loaded(kind)} %{'abcd'[k]}, [%rd2];\n" for k, (kind, _) in enumerate(inputs))
    text = kernel(f"""{declared}  .reg .{_register(result)} %q;
{loads}
  {instructions}
  ld.param.u64 %rd1, [out];
  mad.wide.u32 %rd2, %r2, {DTYPES[result].itemsize}, %rd1;
  st.global.{_loaded(result)} [%rd2], %q;""", ", ".join([*(f".param .u64 p{k}" for k in range(len(inputs))), ".param .u64 out"]))
    arrays = [np.ascontiguousarray(a).view(DTYPES[kind]) for kind, a in inputs]
    block = min(n, 256)
    assert n % block == 0
    return launch(text, n // block, block, *arrays, np.zeros(n, DTYPES[result]))[-1]


def _register(kind: str) -> str:
    return "b16" if kind in ("s8", "u8", "b8", "bf16", "f16") else kind if kind[0] != "f" or "x" not in kind else "b32"


def _loaded(kind: str) -> str:
    return {"f16": "b16", "bf16": "b16", "f16x2": "b32"}.get(kind, kind)
