"""Programs: parsed PTX, linked kernel by kernel, and launched.

`load` keeps programs by content. A `Kernel` is one entry with all that it calls, laid out in one list of instructions
(callees first, so that threads inside a call run before those that are back), each with its function; registers, parameter
storage and variables of all its functions have one numbering. `Program.launch` checks what a driver would, and runs it.
"""
from __future__ import annotations

import dataclasses
import functools
import re
import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np

from . import instructions_convert, instructions_float, instructions_integer, instructions_memory  # noqa: F401 they register
from .counters import Counts
from .errors import LaunchError, PtxError, SyntaxFault, UnsupportedInstruction
from .instructions_warp import barrier_reduction, mask_of
from .machine import BARRIER, BRANCH, CALL, EXIT, MEET, PLAIN, RETURN, SWITCH, TRAP, Machine
from .memory import RAW, SHARED_BASE, Memory
from .operands import DTYPES, OPCODES, PARTS, Operands, Step
from .parse import SIZES, Function, Instruction, Module, Variable, split

CHECKS = ("bounds", "uninitialised", "races", "barriers")
MAX_THREADS, MAX_GRID = 1024, (2**31 - 1, 65535, 65535)
_SHARED_LIMIT = {(7, 5): 65536, (8, 0): 166912, (8, 6): 101376, (8, 7): 166912, (8, 9): 101376, (12, 0): 101376}
_STATIC_SHARED_LIMIT = 49152
_HOST = {"vprintf": "", "__assertfail": "trap"}     # functions of the driver, and the instruction that stands for them
_RETURN = Instruction("ret", (), [], None, False, 0, "ret;")
_FLOPS = {"add": 1, "sub": 1, "mul": 1, "div": 1, "fma": 2, "mad": 2, "sqrt": 1, "rcp": 1, "rsqrt": 1, "ex2": 1, "lg2": 1, "sin": 1,
          "cos": 1, "tanh": 1, "min": 1, "max": 1}


@dataclasses.dataclass
class Executable:
    """One instruction as the machine runs it; what `target` and `function` mean depends on the kind."""
    kind: int
    guard: int | None = None
    negated: bool = False
    function: Callable | None = None
    target: object = None
    mask: Callable | None = None
    leader: bool = False        # a label, or a place where threads come back: groups may meet here


class Kernel:
    """One entry, linked. `code` and `steps` have one element for each instruction."""

    def __init__(self, module: Module, name: str):
        self.name = name
        self.module = module
        self.entry = module.functions[name]
        self.code: list[Instruction] = []
        self.steps: list[Executable] = []
        self.registers: list[str] = []
        self.storage: list[int] = []
        self.starts: dict[str, int] = {}
        self.owners: list[str] = []                 # the function of each instruction
        self.shared_bytes = self.local_bytes = 0    # static
        self.offsets: dict[str, int] = {}           # of shared and local variables
        self.dynamic: list[str] = []                # `.extern .shared` arrays
        self._bases: dict[str, tuple[int, int, int]] = {}   # function -> its first register, storage, instruction
        self._lead: set[int] = set()
        for variable in module.variables.values():
            if variable.space == "shared":
                self._place(variable)
        self._add(name, ())
        self.entry_storage = self._bases[name][1]
        operands = Operands(self.registers)
        self.cell = 4
        for k, (instruction, owner) in enumerate(zip(self.code, self.owners)):
            try:
                self.steps.append(self._build(instruction, owner, operands))
            except PtxError as error:
                if error.line is not None:
                    raise
                raise type(error)(str(error), kernel=name, line=instruction.line, text=instruction.text) from None
            except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
                raise SyntaxFault(f"this instruction is not understood ({type(error).__name__}: {error})", kernel=name,
                                  line=instruction.line, text=instruction.text) from error
            if self.steps[k].kind in (CALL, BARRIER):
                self._lead.add(k + 1)
        for k in self._lead:
            if k < len(self.steps):
                self.steps[k].leader = True

    # --- layout ------------------------------------------------------------------------------------------------------

    def _place(self, variable: Variable) -> None:
        if variable.space == "shared" and variable.count is None:
            self.dynamic.append(variable.name)
            return
        size = getattr(self, f"{variable.space}_bytes")
        size = -(-size // variable.align) * variable.align
        self.offsets[variable.name] = size
        setattr(self, f"{variable.space}_bytes", size + variable.nbytes)

    def _add(self, name: str, callers: tuple[str, ...]) -> None:
        """Lay out a function behind those that it calls."""
        if name in callers:
            raise UnsupportedInstruction(f"{name} calls itself, directly or through others", kernel=self.name)
        if name in self._bases:
            return
        function = self.module.functions.get(name)
        if function is None or (function.body is None and name not in _HOST):
            raise LaunchError(f"kernel {self.name} calls {name}, which none of the texts defines: load them together")
        if function.body is None:
            body = [Instruction(_HOST[name], (), [], None, False, function.line, name), _RETURN]
            function = dataclasses.replace(function, body=body if _HOST[name] else body[1:])
            function.storage = [SIZES[v.kind] * (v.count or 1) for v in function.results + function.parameters]
        for instruction in function.body:
            if instruction.opcode == "call":
                self._add(self._callee(instruction), (*callers, name))
        start = self.starts[name] = len(self.code)
        self._bases[name] = (len(self.registers), len(self.storage), start)
        self.registers += function.registers
        self.storage += function.storage
        for variable in function.variables:
            if variable.space not in ("shared", "local"):
                raise UnsupportedInstruction(f".{variable.space} variable inside a function", kernel=self.name)
            self._place(variable)
        for instruction in function.body:
            self.code.append(self._renumbered(instruction, name))
            self.owners.append(name)
        self._lead |= {start, *(start + k for k in function.labels.values())}

    @staticmethod
    def _callee(instruction: Instruction) -> str:
        return next(o for o in instruction.operands if not o.startswith("("))

    def _renumbered(self, instruction: Instruction, owner: str) -> Instruction:
        """With registers and storage numbered over the whole kernel, and its floating point operations counted."""
        kinds = [m for m in instruction.modifiers if m in SIZES]
        flops = _FLOPS.get(instruction.opcode, 0) if kinds and kinds[-1][0] == "f" else 0
        instruction.flops = flops * (2 if kinds and kinds[-1] in PARTS else 1)
        registers, storage, _ = self._bases[owner]
        if registers == storage == 0:
            return instruction

        def number(text):
            text = re.sub(r"#(\d+)", lambda m: f"#{int(m.group(1)) + registers}", text)
            return re.sub(r"&(\d+)", lambda m: f"&{int(m.group(1)) + storage}", text)
        return dataclasses.replace(instruction, operands=[number(o) for o in instruction.operands],
                                   guard=number(instruction.guard) if instruction.guard else None)

    # --- functions of instructions -----------------------------------------------------------------------------------

    def _build(self, instruction: Instruction, owner: str, operands: Operands) -> Executable:
        guard = int(instruction.guard[1:]) if instruction.guard else None
        step = Step(instruction, operands)
        kind, function, target, mask = PLAIN, None, None, None
        opcode = instruction.opcode
        if opcode == "bra":
            kind, target = BRANCH, self._label(owner, instruction.operands[0])
        elif opcode == "brx":
            table = self.module.functions[owner].tables[instruction.operands[1]]
            kind, function, target = SWITCH, step.read(0, "u32"), [self._label(owner, label) for label in table]
        elif opcode in ("ret", "exit"):
            kind, target = (RETURN, owner) if opcode == "ret" else (EXIT, None)
        elif opcode == "trap":
            kind = TRAP
        elif opcode == "call":
            kind, target = CALL, self._call(instruction)
        elif opcode in ("bar", "barrier") and "warp" not in step.modifiers:
            kind, function, target = BARRIER, *self._barrier(step)
        else:
            build = OPCODES.get(opcode)
            if build is None:
                raise step.refuse()
            mask = mask_of(step)
            if mask is not None:
                kind = MEET
                one = mask

                def mask(m, threads):
                    return np.broadcast_to(one(m, threads), len(threads))
            function = build(step)
            if opcode in ("ld", "st", "atom", "red") and not {"local", "param", "const"} & set(step.modifiers):
                self.cell = min(self.cell, SIZES[step.kind])
        return Executable(kind, guard, instruction.negated, function, target, mask)

    def _label(self, owner: str, label: str) -> int:
        labels = self.module.functions[owner].labels
        if label not in labels:
            raise SyntaxFault(f"label {label} is not defined")
        return self._bases[owner][2] + labels[label]

    def _call(self, instruction: Instruction) -> tuple[str, list, list]:
        """(callee, [(own storage, parameter)], [(result, own storage)])."""
        operands = list(instruction.operands)
        results = split(operands.pop(0)[1:-1]) if operands[0].startswith("(") else []
        name = operands.pop(0)
        if name.startswith(("#", "%")):
            raise UnsupportedInstruction("call through an address")
        arguments = split(operands[0][1:-1]) if operands else []
        base = self._bases[name][1]
        callee = self.module.functions[name]
        count = len(callee.results)
        return (name, [(int(a[1:]), base + count + k) for k, a in enumerate(arguments)],
                [(base + k, int(r[1:])) for k, r in enumerate(results)])

    @staticmethod
    def _barrier(step: Step) -> tuple[Callable | None, tuple | None]:
        """(what happens when it opens, (reader of its number, reader of the number of threads) or None for the plain one)."""
        if "arrive" in step.modifiers or "cluster" in step.modifiers:
            raise step.refuse("bar.arrive" if "arrive" in step.modifiers else "barrier of a cluster")
        function, operands = None, step.arguments
        first = 0
        if "red" in step.modifiers:
            function, first = barrier_reduction(step), 1
            operands = operands[:-1]
        if operands[first:] == ["0"] or not operands[first:]:
            return function, None
        needed = step.read(first + 1, "u32") if len(operands) > first + 1 else None
        return function, (step.read(first, "u32"), needed)


class Program:
    """The kernels of one or several PTX texts that belong together. Made by `load`. Safe to use from several threads."""

    def __init__(self, texts: Sequence[str]):
        self._module = Module(texts[0])
        for k, text in enumerate(texts[1:], 1):
            other = Module(text, sum(len(t.splitlines()) for t in texts[:k]))
            for name, function in other.functions.items():
                if function.body is not None or name not in self._module.functions:
                    self._module.functions[name] = function
            for name, variable in other.variables.items():
                if name not in self._module.variables or self._module.variables[name].external:
                    self._module.variables[name] = variable
        self.target = self._module.target
        self._kernels: dict[str, Kernel] = {}
        self._lock = threading.Lock()

    @property
    def kernels(self) -> list[str]:
        """The names of the entries."""
        return [f.name for f in self._module.functions.values() if f.entry and f.body is not None]

    def parameters(self, kernel_name: str | None = None) -> list[tuple[str, str]]:
        """(name, type) of each parameter of a kernel, such as ("x_param_0", "u64")."""
        return [(p.name, p.kind) for p in self._function(kernel_name).parameters]

    def lines(self, kernel_name: str | None = None) -> dict[int, str]:
        """PTX line -> instruction, of a kernel and all that it calls."""
        return {i.line: i.text for i in self._kernel(self._function(kernel_name).name).code}

    def launch(self, kernel_name: str | None, grid: Sequence[int] | int, block: Sequence[int] | int, arguments: Sequence,
               memory: Memory, shared_bytes: int = 0, check: Sequence[str] = CHECKS, *, count: bool = True,
               limit: int = 5_000_000) -> Counts:
        """Run a kernel for all threads of a grid, and return what it cost.

        kernel_name: of the entry; None where there is only one.
        grid, block: one to three sizes, x first.
        arguments: int, float or NumPy scalar for each .param in order: addresses, sizes, strides, numbers. Bytes, or an array
            of uint8, pass a parameter as it lies in memory (structures, complex numbers).
        shared_bytes: dynamic shared memory of a block.
        check: some of CHECKS. Bounds, alignment and lifetime are always checked, since memory that is not there cannot be
            used; "uninitialised" reads of memory nobody has written, "races", "barriers" that not all threads reach.
        count: whether the figures of `Counts` are collected (about a third of the time); else they are zero.
        limit: instructions that may be issued (each for a whole group of threads) before the launch counts as endless.

        Errors: LaunchError for what a driver would refuse, else the subclass of PtxError for what went wrong; the memory
        then is as the kernel left it.
        """
        function = self._function(kernel_name)
        kernel = self._kernel(function.name)
        grid, block = _three(grid, "grid"), _three(block, "block")
        shared = self._validate(kernel, grid, block, shared_bytes, check)
        values = [_bytes_of(v, p, function.name) for v, p in zip(_matching(arguments, function), function.parameters)]
        addresses = self._addresses(kernel, memory)
        machine = Machine(kernel, grid, block, values, memory, addresses, shared_bytes, shared, tuple(check), limit, count)
        machine.run()
        return machine.counts()

    # --- before a launch ---------------------------------------------------------------------------------------------

    def _function(self, name: str | None) -> Function:
        if name is None:
            if len(self.kernels) != 1:
                raise LaunchError(f"the program has {len(self.kernels)} kernels ({', '.join(self.kernels)}): name one")
            name = self.kernels[0]
        function = self._module.functions.get(name)
        if function is None or not function.entry or function.body is None:
            raise LaunchError(f"no kernel {name}; there are: {', '.join(self.kernels) or 'none'}")
        return function

    def _kernel(self, name: str) -> Kernel:
        with self._lock:
            if name not in self._kernels:
                self._kernels[name] = Kernel(self._module, name)
            return self._kernels[name]

    def _validate(self, kernel: Kernel, grid, block, dynamic: int, check) -> int:
        """Refuse what a driver would; returns the bytes of shared memory of a block."""
        threads = block[0] * block[1] * block[2]
        where = {"kernel": kernel.name}
        if unknown := set(check) - set(CHECKS):
            raise LaunchError(f"unknown check {sorted(unknown)}; there are {', '.join(CHECKS)}", **where)
        if threads > MAX_THREADS or block[2] > 64:
            raise LaunchError(f"block {block} has {threads} threads; at most {MAX_THREADS}, and 64 in z", **where)
        if any(g > most for g, most in zip(grid, MAX_GRID)):
            raise LaunchError(f"grid {grid} is larger than {MAX_GRID}", **where)
        for word, sizes in kernel.entry.limits.items():
            most = int(np.prod(sizes))
            if threads > most or (word == "reqntid" and threads != most):
                raise LaunchError(f"block {block} has {threads} threads, the kernel was compiled for .{word} {sizes}", **where)
        if dynamic < 0 or (dynamic and not kernel.dynamic):
            raise LaunchError(f"{dynamic} bytes of dynamic shared memory, but the kernel declares none", **where)
        start = -(-kernel.shared_bytes // 16) * 16 if kernel.dynamic else kernel.shared_bytes
        most = _SHARED_LIMIT.get(self.target, 232448)
        if kernel.shared_bytes > _STATIC_SHARED_LIMIT or start + dynamic > most:
            raise LaunchError(f"{kernel.shared_bytes} static and {dynamic} dynamic bytes of shared memory; at most "
                              f"{_STATIC_SHARED_LIMIT} static and {most} in all", **where)
        return start + dynamic

    def _addresses(self, kernel: Kernel, memory: Memory) -> dict[str, int]:
        """The address of every variable that instructions may name; the module's are put into `memory` once."""
        addresses = dict(kernel.offsets)
        addresses.update(dict.fromkeys(kernel.dynamic, -(-kernel.shared_bytes // 16) * 16))
        with memory.lock:
            mine = memory.symbols.get(self)
            if mine is None:
                mine = memory.symbols[self] = {}
                outer = [v for v in self._module.variables.values() if v.space in ("global", "const")]
                for v in outer:
                    mine[v.name] = memory.allocate(v.nbytes, f".{v.space} variable {v.name} ({v.nbytes} bytes)", v.space == "const")
                for v in outer:
                    memory.fill(mine[v.name], v.nbytes)     # what has no value begins as zero
                    if v.values is not None:
                        memory.write(mine[v.name], self._initial(v, {**mine, **addresses}))
        return {**addresses, **mine}

    def _initial(self, variable: Variable, addresses: dict[str, int]) -> np.ndarray:
        """The bytes of a variable's initial values: numbers, or addresses of other variables."""
        dtype, data = DTYPES[variable.kind], bytearray()
        for text in re.split(r"[,\s]+", re.sub("[⟨⟩{}]", " ", variable.values).strip()):
            match = re.fullmatch(r"(?:generic\()?([A-Za-z_$%][\w$]*)\)?(?:\+(\d+))?", text)
            if match:
                base = SHARED_BASE if self._module.variables[match.group(1)].space == "shared" else 0
                data += struct.pack("<Q", addresses[match.group(1)] + base + int(match.group(2) or 0))[:dtype.itemsize]
            elif re.match(r"0[fFdD]", text):
                data += int(text[2:], 16).to_bytes(4 if text[1] in "fF" else 8, "little")
            else:
                data += (int(text.rstrip("U"), 0) & ((1 << 8 * dtype.itemsize) - 1)).to_bytes(dtype.itemsize, "little")
        return np.frombuffer(bytes(data), np.uint8)


def _three(sizes, what: str) -> tuple[int, int, int]:
    sizes = (sizes,) if isinstance(sizes, (int, np.integer)) else tuple(sizes)
    if not 1 <= len(sizes) <= 3 or any(int(s) < 1 for s in sizes):
        raise LaunchError(f"{what} {sizes}: one to three sizes of at least 1 are needed")
    return tuple(int(s) for s in (*sizes, 1, 1)[:3])


def _matching(arguments: Sequence, function: Function) -> Sequence:
    if len(arguments) != len(function.parameters):
        raise LaunchError(f"{len(arguments)} arguments for {len(function.parameters)} parameters", kernel=function.name)
    return arguments


def _bytes_of(value, parameter: Variable, kernel: str) -> np.ndarray:
    """The bytes of an argument as its parameter holds them."""
    size = SIZES[parameter.kind] * (1 if parameter.count is None else parameter.count)
    if isinstance(value, (bytes, bytearray, np.ndarray)):
        raw = np.frombuffer(bytes(value), np.uint8)
        if len(raw) != size:
            raise LaunchError(f"argument {parameter.name} has {len(raw)} bytes, the parameter {size}", kernel=kernel)
        return raw
    dtype = DTYPES[parameter.kind]
    scalar = np.asarray(0 if isinstance(value, int) else value)     # a large int would become an object
    if scalar.shape != () or scalar.dtype.kind not in "biufc":
        raise LaunchError(f"argument {parameter.name} is {value!r}; a number is needed", kernel=kernel)
    if scalar.dtype.kind == "c":
        raise LaunchError(f"argument {parameter.name} is complex; pass real and imaginary part", kernel=kernel)
    if parameter.count not in (None, 1):
        raise LaunchError(f"argument {parameter.name}: the parameter has {size} bytes; pass bytes", kernel=kernel)
    if scalar.dtype.kind == "f":
        if dtype.kind == "f":
            return scalar.astype(dtype).reshape(1).view(np.uint8)
        if isinstance(value, np.floating) and scalar.dtype.itemsize == size:       # a float16 passed as .u16, say
            return scalar.reshape(1).view(np.uint8)
        raise LaunchError(f"argument {parameter.name} is the float {value!r}, the parameter is .{parameter.kind}", kernel=kernel)
    if dtype.kind == "f":
        return np.array([value], dtype).view(np.uint8)
    number = int(value)
    if not -(1 << (8 * size - 1)) <= number < 1 << 8 * size:
        raise LaunchError(f"argument {parameter.name} = {number} does not fit .{parameter.kind}", kernel=kernel)
    return np.array([number & ((1 << 8 * size) - 1)], RAW[size]).view(np.uint8)


@functools.lru_cache(maxsize=512)
def load(*texts: str) -> Program:
    """The program of a PTX text, or of several that are linked (their lines are numbered on); parsed once for each content.

    Kernels are linked when first launched: an instruction that is not interpreted (UnsupportedInstruction) in one kernel does
    no harm to others. SyntaxFault for text that is not PTX.
    """
    if not texts:
        raise ValueError("load: no text")
    return Program(texts)

