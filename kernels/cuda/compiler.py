"""numba-cuda's side: a program's source text becomes PTX, and PTX machine code with a report. Needs no GPU and no driver.

A program is source text of one kernel plus the plain Python functions that it calls, as on the CPU. Kernels take scalars only:
addresses as uint64, sizes and strides as integers, numbers as they are, because numba-cuda pays several microseconds a launch for
each array. Several programs may be compiled as one module, which is faster; PTX is kept in the store (`kernels.store`), by content.
numba-cuda is imported only when something is missing there.
"""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

from .. import store
from ..scalars import CompileError

CAPABILITIES = ((7, 5), (9, 0), (10, 0))        # what is checked: the oldest served, and both generations of NVVM's code
_lock = threading.RLock()
compilations = 0                                # how many programs this process has compiled; tests count them


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Source text of one kernel and what it needs.

    `functions` maps names in the source to (plain Python function, type of its number literals or None); `parameters` are the
    dtypes of the kernel's arguments, "address" for memory; `threads`: how many a block has.
    """
    name: str
    source: str
    parameters: tuple[str, ...]
    functions: dict[str, tuple[Callable, str | None]] = dataclasses.field(default_factory=dict)
    threads: int = 256

    @functools.cached_property
    def content(self) -> str:
        """A hash of source text and functions."""
        functions = [f"{n}:{t}:{store.identity(f)}" for n, (f, t) in sorted(self.functions.items())]
        return store.digest(self.name, self.source, repr(self.parameters), str(self.threads), *functions)

    @property
    def symbol(self) -> str:
        """The name of the kernel in PTX, by content."""
        return f"kernel_{self.content[:24]}"

    def key(self, capability: tuple[int, int]) -> str:
        """Where its PTX is kept in the store."""
        return store.digest("cuda", toolchain(), sources(), self.content, repr(capability))


@dataclasses.dataclass(frozen=True)
class Report:
    """What the assembler said of a kernel, in bytes but for registers (per thread)."""
    registers: int
    shared: int
    stack: int
    spilled: int                # bytes stored and loaded because registers did not suffice


@functools.cache
def toolchain() -> str:
    """Versions of what makes PTX; ImportError where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version
    found = []
    for name in ("numba-cuda", "nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-nvjitlink", "llvmlite", "numba"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name == "numba-cuda":
                raise ImportError("CUDA kernels need numba-cuda: pip install 'njit-engine[cuda]'") from None
    return ", ".join(found)


@functools.cache
def sources() -> str:
    """Hash of what reaches every kernel's code: libm, the lowering, the shared text."""
    from pathlib import Path
    here = Path(__file__).parent
    files = [*sorted(here.parent.glob("libm*.py")), *(here.parent / n for n in ("lowering.py", "scalars.py", "source.py")),
             here / "lowering.py", here / "compiler.py"]
    return store.digest(*(f.read_bytes() for f in files))


# --- to PTX -----------------------------------------------------------------------------------------------------------

def ptx(program: Program, capability: tuple[int, int]) -> str:
    """The PTX of a program, from the store or fresh."""
    found = store.load(program.key(capability))
    return found[1].decode() if found else compile_programs([program], [capability])[capability]


def compile_programs(programs: Sequence[Program], capabilities: Sequence[tuple[int, int]] = CAPABILITIES
                     ) -> dict[tuple[int, int], str]:
    """PTX of one module with the kernels of all programs, for each capability; kept in the store under all of them together."""
    keys = {c: programs[0].key(c) if len(programs) == 1 else store.digest(*(p.key(c) for p in programs)) for c in capabilities}
    found = {c: store.load(key) for c, key in keys.items()}
    missing = [c for c, entry in found.items() if entry is None]
    made = _compile(programs, missing) if missing else {}
    for c, text in made.items():
        store.save(keys[c], {"kernels": [p.symbol for p in programs]}, text.encode())
    return {c: made[c] if c in made else found[c][1].decode() for c in capabilities}


def _compile(programs: Sequence[Program], capabilities: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    global compilations
    with _lock, _ready():
        modules: dict[int, object] = {}
        renamed = {}
        for program in programs:
            name, needed = _lowered(program)
            renamed[name] = program.symbol
            modules.update((id(module), module) for module in needed)
            compilations += 1
        texts = [_rolled(str(m)) for m in modules.values()]
        made = {c: _to_ptx(programs, texts, c) for c in capabilities}
        entry = re.compile("|".join(map(re.escape, renamed)))
        return {c: entry.sub(lambda found: renamed[found[0]], text) for c, text in made.items()}


def _to_ptx(programs: Sequence[Program], texts: list[str], capability: tuple[int, int]) -> str:
    """NVVM on LLVM modules. `fma=0`: products and sums are contracted only where the source says so, as on the CPU."""
    from numba.cuda.cudadrv import nvvm
    unit = nvvm.CompilationUnit({"arch": f"compute_{capability[0]}{capability[1]}", "opt": 3, "fma": 0})
    try:
        for text in texts:
            unit.add_module(nvvm.llvm_replace(text).encode())
        unit.verify()
        unit.lazy_add_module(nvvm.LibDevice().get())
        return unit.compile().decode().strip("\0 \n")
    except Exception as error:
        names = ", ".join(p.name for p in programs)
        raise CompileError(f"{names}: NVVM refused the code: {error}\n{unit.get_log()}\n{programs[0].source}") from None


def _lowered(program: Program) -> tuple[str, list]:
    """What numba-cuda calls a program's kernel, and the LLVM modules of it and all that it calls."""
    from numba.core.errors import NumbaError
    from numba.cuda import types
    from numba.cuda.compiler import compile_cuda, kernel_fixup
    from numba.cuda.core.errors import NumbaError as CudaError
    from numba.cuda.cudadrv import nvvm

    from .. import scalars
    from . import lowering
    space = lowering.names(program.source)
    for name, (function, literal) in program.functions.items():
        space[name] = scalars.jit(_Target, function, lowering.COMPUTE[literal] if literal else None)
    exec(compile(program.source, f"<kernel {program.name}>", "exec"), space)
    arguments = tuple(types.uint64 if d == "address" else lowering.MEMORY[d][0] for d in program.parameters)
    try:
        result = compile_cuda(space["kernel"], types.void, arguments, cc=CAPABILITIES[0], nvvm_options={"opt": 3})
    except (NumbaError, CudaError) as error:
        raise CompileError(f"{program.name}: numba-cuda could not compile this kernel.\n{program.source}\n{error}") from None
    library = result.library
    kernel = library.get_function(result.fndesc.llvm_func_name)
    kernel_fixup(kernel, False)
    nvvm.set_launch_bounds(kernel, program.threads)
    return kernel.name, list(library.modules)


def _rolled(module: str) -> str:
    """LLVM code whose loops stay loops: to unroll one whose count is not known, NVVM would divide 64-bit numbers first."""
    lines, seen, loops = [], set(), 0
    for line in module.splitlines():
        if line and not line[0].isspace():
            label = re.match(r'"?([^":]+)"?:', line)
            if label:
                seen.add(label[1])
            elif line.startswith("define"):
                seen = set()
        elif line.lstrip().startswith("br ") and any(t in seen for t in re.findall(r'label %"?([^",]+)"?', line)):
            loops += 1
            line += f", !llvm.loop !{900000 + loops}"
        lines.append(line)
    nodes = [f"!{900000 + k} = distinct !{{!{900000 + k}, !900000}}" for k in range(1, loops + 1)]
    return "\n".join([*lines, *nodes, '!900000 = !{!"llvm.loop.unroll.disable"}'] if loops else lines) + "\n"


class _Target:
    """What the scalar functions of a kernel become on CUDA."""

    class loads:
        """Loads from an address, for functions that users wrote with tables of numbers."""
        def __class_getitem__(cls, dtype: str):
            from . import lowering
            return lowering.access("read", 1, dtype)

    @staticmethod
    def function(python, own=True, **options):
        from . import lowering
        return lowering.function(python, own, **options)

    @staticmethod
    def patience(used: bool, interruptible: bool) -> dict:
        """A kernel on the GPU runs to its end: no loop is asked whether it shall end."""
        from . import lowering
        return {"interrupted": lowering.never}


@contextlib.contextmanager
def _ready() -> Iterator[None]:
    """numba-cuda without a device: functions that kernels call would ask for the current one while they are typed."""
    toolchain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numba.cuda import dispatcher

        from . import lowering
        lowering.register()
        asked = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITIES[0])
        try:
            yield
        finally:
            dispatcher.get_current_device = asked


# --- to machine code --------------------------------------------------------------------------------------------------

def assemble(text: str, capability: tuple[int, int]) -> tuple[bytes, dict[str, Report]]:
    """Machine code (a cubin) of PTX by the wheel's linker, and its report of each kernel; kept in the store."""
    key = store.digest("cubin", toolchain(), text, repr(capability))
    found = store.load(key)
    if found is None:
        code, log = _link(text, capability)
        reports = {name: dataclasses.asdict(report) for name, report in reports_of(log).items()}
        store.save(key, reports, code)
        found = reports, code
    return found[1], {name: Report(**about) for name, about in found[0].items()}


def _link(text: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    from cuda.bindings import nvjitlink
    handle = nvjitlink.create(2, [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"])
    try:
        data = text.encode() + b"\0"
        try:
            nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel.ptx")
            nvjitlink.complete(handle)
        except Exception as error:
            size = nvjitlink.get_error_log_size(handle)
            log = bytearray(size)
            nvjitlink.get_error_log(handle, log)
            raise CompileError(f"the assembler refused this PTX: {error}\n{log.decode(errors='replace')}") from None
        code = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, code)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
        return bytes(code), log.decode(errors="replace").strip("\0\n ")
    finally:
        nvjitlink.destroy(handle)


def reports_of(log: str) -> dict[str, Report]:
    """The assembler's words, by kernel."""
    found = {}
    for name, body in re.findall(r"Function properties for (\S+)\n(.*?)(?=Compiling entry|\Z)", log.replace("'", ""), re.S):
        def number(pattern, body=body):
            match = re.search(pattern, body)
            return int(match[1]) if match else 0
        spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        found[name] = Report(number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), number(r"(\d+) bytes stack"), spilled)
    return found
