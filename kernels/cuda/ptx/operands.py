"""Operands of instructions as functions of (machine, threads): readers, writers, addresses.

`threads` is an ascending array of positions, or None for all threads. A reader gives an array of the asked dtype with one
element for each thread, or with a single element where all threads have the same value: arithmetic broadcasts, so work that
is equal for all threads is done once. Registers hold raw bits: unsigned words, and bool for predicates.
"""
from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable

import numpy as np

from .errors import SyntaxFault, UnsupportedInstruction
from .memory import RAW
from .parse import SIZES, Instruction, elements
from .special import check_name

DTYPES = {kind: np.dtype(name) for name, kinds in {
    "u1": "b8 u8", "i1": "s8", "u2": "b16 u16 bf16", "i2": "s16", "f2": "f16", "u4": "b32 u32 f16x2 bf16x2 s16x2 u16x2",
    "i4": "s32", "f4": "f32", "u8": "b64 u64 f32x2", "i8": "s64", "f8": "f64", "?": "pred"}.items() for kind in kinds.split()}
# The numbers of which a word holds two.
PARTS = {kind: np.dtype(name) for kind, name in {"f16x2": "f2", "f32x2": "f4", "s16x2": "i2", "u16x2": "u2"}.items()}
SIGNED = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}
Reader = Callable[[object, "np.ndarray | None"], np.ndarray]
Writer = Callable[[object, "np.ndarray | None", np.ndarray], None]


def bits(value: int, dtype: np.dtype) -> np.ndarray:
    """An integer, wrapped around, as an array (1,) of an integer dtype."""
    return np.array([value & ((1 << 8 * dtype.itemsize) - 1)], RAW[dtype.itemsize]).view(dtype)


def constant(text: str, dtype: np.dtype) -> np.ndarray | None:
    """A literal as an array (1,), or None where `text` is none."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
        word = np.uint32 if text[1] in "fF" else np.uint64
        raw = np.array([int(text[2:], 16)], word)
        if dtype.kind == "f":
            return raw.view(np.float32 if word is np.uint32 else np.float64).astype(dtype)
        return raw.astype(RAW[dtype.itemsize]).view(dtype)
    if dtype.kind == "f" and re.fullmatch(r"-?\d+\.\d*([eE][+-]?\d+)?", text):
        return np.array([float(text)], dtype)
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?", text):
        digits = text.rstrip("U")
        octal = re.fullmatch(r"-?0[0-7]+", digits)
        value = int(digits, 8) if octal else int(digits, 0)
        if dtype.kind == "b":
            return np.array([bool(value)])
        if dtype.kind == "f" and dtype.itemsize > 2:
            return np.array([value], dtype)
        return bits(value, RAW[dtype.itemsize]).view(dtype)
    return None


class Operands:
    """Makes readers and writers for the instructions of one kernel; `registers` are the kinds of all its registers."""

    def __init__(self, registers: list[str]):
        self.registers = registers

    def read(self, text: str, kind: str) -> Reader:
        """The operand's value, seen as `kind`."""
        dtype = DTYPES.get(kind)
        if dtype is None:
            raise UnsupportedInstruction(f"values of type .{kind}")
        if text.startswith("#"):
            return self._register(int(text[1:]), dtype)
        if text.startswith("!"):
            inner = self.read(text[1:], kind)
            return lambda m, threads: ~inner(m, threads)
        if text.startswith("%"):
            check_name(text)

            def special(m, threads):
                value = m.special(text)
                return (value if threads is None or len(value) == 1 else value[threads]).astype(dtype)
            return special
        value = constant(text, dtype)
        if value is not None:
            return lambda m, threads: value
        match = re.fullmatch(r"@([\w$.:%]+)(?:\+(-?\d+))?", text)
        if match:
            name, offset = match.group(1), int(match.group(2) or 0)
            return lambda m, threads: bits(m.addresses[name] + offset, np.dtype(np.uint64)).astype(dtype)
        if text.startswith("&"):
            raise UnsupportedInstruction("the address of a parameter")
        raise SyntaxFault(f"operand {text} is not declared")

    def _register(self, number: int, dtype: np.dtype) -> Reader:
        width = DTYPES[self.registers[number]].itemsize
        predicate = self.registers[number] == "pred"
        if predicate or width == dtype.itemsize:
            def read(m, threads):
                value = m.registers[number]
                if threads is not None and len(value) != 1:
                    value = value[threads]
                return value if predicate else value.view(dtype)
            return read
        word = RAW[dtype.itemsize]

        def convert(m, threads):
            value = m.registers[number]
            if threads is not None and len(value) != 1:
                value = value[threads]
            return value.astype(word).view(dtype)
        return convert

    def write(self, text: str) -> Writer:
        """Puts values into a register; narrower signed values are sign-extended, others zero-extended; `_` drops them."""
        if text == "_":
            return lambda m, threads, value: None
        if not text.startswith("#"):
            raise SyntaxFault(f"destination {text} is not declared")
        number = int(text[1:])
        raw = np.dtype(bool) if self.registers[number] == "pred" else RAW[DTYPES[self.registers[number]].itemsize]

        def write(m, threads, value):
            if value.dtype != raw:
                if value.dtype.itemsize == raw.itemsize and raw.kind != "b" and value.dtype.kind != "b":
                    value = value.view(raw)
                elif value.dtype.kind == "f":
                    value = value.view(RAW[value.dtype.itemsize]).astype(raw)
                elif value.dtype.kind == "i" and raw.kind != "b":
                    value = value.astype(SIGNED[raw.itemsize]).view(raw)
                else:
                    value = value.astype(raw)
            if threads is None:
                m.registers[number] = value
                return
            # Others may hold the array (a move shares it): change a copy.
            old = m.registers[number]
            new = np.empty(m.threads, raw)
            new[:] = old
            new[threads] = value
            m.registers[number] = new
        return write

    def address(self, text: str) -> tuple[str | None, int, Reader | None]:
        """An operand `[base+offset]`: (name of a parameter variable or None, offset, reader of int64 addresses or None)."""
        match = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]", text)
        if not match:
            raise SyntaxFault(f"address {text} not understood")
        base, offset = match.group(1), int(match.group(2) or "0", 0)
        if base.startswith("&"):
            return base, offset, None
        wide = not base.startswith("#") or self.registers[int(base[1:])] in ("b64", "u64", "s64")
        read = self.read(base, "u64" if wide else "u32")
        if offset == 0:
            return None, 0, (lambda m, threads: read(m, threads).view(np.int64)) if wide else \
                (lambda m, threads: read(m, threads).astype(np.int64))
        return None, offset, lambda m, threads: read(m, threads).astype(np.int64) + offset


class Step:
    """One instruction while its function is built: its modifiers, its type, and its operands."""

    def __init__(self, instruction: Instruction, operands: Operands):
        self.instruction, self.operands = instruction, operands
        self.opcode, self.modifiers = instruction.opcode, instruction.modifiers
        self.kinds = [m for m in self.modifiers if m in SIZES]
        self.kind = self.kinds[-1] if self.kinds else None
        self.arguments = instruction.operands

    def has(self, *words: str) -> str | None:
        """The first of these words that is a modifier, or None."""
        return next((w for w in words if w in self.modifiers), None)

    def read(self, k: int, kind: str | None = None) -> Reader:
        """Reader of operand k."""
        return self.operands.read(self.arguments[k], kind or self.kind)

    def write(self, k: int = 0) -> Writer:
        """Writer of operand k, usually 0."""
        return self.operands.write(self.arguments[k])

    def pair(self, k: int = 0) -> tuple[Writer, Writer | None]:
        """Writers of a destination `a|b`."""
        names = self.arguments[k].split("|")
        return self.operands.write(names[0]), self.operands.write(names[1]) if len(names) > 1 else None

    def vector(self, k: int) -> list[str]:
        """The elements of operand k."""
        return elements(self.arguments[k])

    def map(self, function: Callable, *kinds: str) -> Callable:
        """The step that writes function(operand 1, operand 2, ...); operands have `kinds`, or the instruction's type."""
        count = len(self.arguments) - 1
        if kinds and count != len(kinds):
            raise SyntaxFault(f"{count} operands do not suit this instruction")
        readers = [self.read(k + 1, kinds[k] if kinds else None) for k in range(count)]
        write = self.write()
        if not readers or len(readers) not in _counts(function):
            raise SyntaxFault(f"{len(readers)} operands do not suit this instruction")
        if len(readers) == 1:
            read, = readers
            return lambda m, threads: write(m, threads, function(read(m, threads)))
        if len(readers) == 2:
            one, two = readers
            return lambda m, threads: write(m, threads, function(one(m, threads), two(m, threads)))
        return lambda m, threads: write(m, threads, function(*[r(m, threads) for r in readers]))

    def map_parts(self, function: Callable) -> Callable:
        """The step of an operation on the two numbers in each word, for types such as .f16x2."""
        part, word = PARTS[self.kind], DTYPES[self.kind]

        def compute(*words):
            result = function(*[np.ascontiguousarray(w)[:, None].view(part) for w in words]).astype(part, copy=False)
            return np.ascontiguousarray(result).view(word)[:, 0]
        return self.map(compute)

    def without(self, k: int) -> Step:
        """The same step with operand k left out."""
        operands = [*self.arguments[:k], *self.arguments[k + 1:]]
        return Step(dataclasses.replace(self.instruction, operands=operands), self.operands)

    def refuse(self, why: str = "") -> UnsupportedInstruction:
        """The error for an instruction that is not known."""
        return UnsupportedInstruction(f"this instruction is not interpreted{': ' + why if why else ''}")


def _counts(function: Callable) -> range:
    """How many arguments a function takes."""
    if isinstance(function, np.ufunc):
        return range(function.nin, function.nin + 1)
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return range(len(parameters) - 1, 9)
    return range(len(parameters), len(parameters) + 1)


OPCODES: dict[str, Callable[[Step], Callable]] = {}


def instruction(*opcodes: str):
    """Decorator: a function that turns a `Step` into a function of (machine, threads), for these opcodes."""
    def enter(build):
        for opcode in opcodes:
            OPCODES[opcode] = build
        return build
    return enter
