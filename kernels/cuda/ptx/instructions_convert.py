"""Moves and conversions: mov, cvt between all types and roundings, packing and unpacking, addresses of spaces.
"""
from __future__ import annotations

import numpy as np

from .memory import GLOBAL_BASE, LOCAL_BASE, RAW, SHARED_BASE
from .operands import DTYPES, Step, instruction
from .parse import SIZES
from .rounding import flush, narrow, saturate

_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_DIRECTIONS = ("rn", "rz", "rm", "rp")
_BASES = {"shared": SHARED_BASE, "local": LOCAL_BASE}


@instruction("mov")
def move(step: Step):
    """A register, constant, address or special register; with a vector on either side, packs or unpacks a word."""
    targets, sources = step.vector(0), step.vector(1)
    width = SIZES[step.kind]
    if len(sources) > 1:
        part = f"b{8 * width // len(sources)}"
        readers = [step.operands.read(s, part) for s in sources]
        write, dtype, sub, raw = step.write(), DTYPES[step.kind], RAW[width // len(sources)], RAW[width]

        def pack(m, threads):
            word = np.zeros(1, raw)
            for k, read in enumerate(readers):
                word = word | (read(m, threads).view(sub).astype(raw) << raw.type(8 * sub.itemsize * k))
            write(m, threads, word.view(dtype))
        return pack
    if len(targets) > 1:
        writers = [step.operands.write(t) for t in targets]
        raw, sub = RAW[width], RAW[width // len(targets)]
        read = step.read(1, f"b{8 * width}")

        def unpack(m, threads):
            word = read(m, threads)
            for k, write in enumerate(writers):
                write(m, threads, (word >> raw.type(8 * sub.itemsize * k)).astype(sub))
        return unpack
    return step.map(lambda a: a)


@instruction("cvt")
def convert(step: Step):
    """Between all numbers: rounded as asked; to integers clamped, NaN to 0 (as the hardware does); .sat clamps further."""
    words = step.modifiers
    target, source = step.kinds[0], step.kinds[-1]
    if target == "f16x2" and source == "f32":
        return _two_halves(step)
    if "bf16" in (target, source):
        return _bfloat16(step, target, source)
    if target in ("f16x2", "bf16x2") or source in ("f16x2", "bf16x2") or any(w.startswith(("e4m3", "e5m2", "tf32")) for w in words):
        raise step.refuse("conversion of this type")
    to, of = DTYPES[target], DTYPES[source]
    if to.kind == "f" and of.kind == "f":
        function = _float_to_float(step, to, of)
    elif of.kind == "f":
        function = _float_to_integer(step, to, of)
    elif to.kind == "f":
        function = _integer_to_float(step, to)
    else:
        function = _integer_to_integer(step, to, of)
    return step.map(function, source)


def _finish(step: Step, dtype: np.dtype):
    ftz, sat, relu = step.has("ftz") and dtype == np.float32, step.has("sat"), step.has("relu")

    def finish(a):
        if ftz:
            a = flush(a)
        if sat:
            a = saturate(a)
        return np.where(np.isnan(a), a, np.maximum(a, a.dtype.type(0))) if relu else a
    return finish


def _float_to_float(step: Step, to: np.dtype, of: np.dtype):
    integral, mode = _TO_INTEGRAL.get(step.has(*_TO_INTEGRAL)), step.has(*_DIRECTIONS)
    ftz, finish = step.has("ftz") and of == np.float32, _finish(step, to)

    def function(a):
        if ftz:
            a = flush(a)
        if integral:
            a = integral(a)
        elif mode in ("rz", "rm", "rp") and to.itemsize < of.itemsize:
            wide = a.astype(np.float64)
            return finish(narrow(wide, np.zeros_like(wide), to, mode))
        return finish(a.astype(to))
    return function


def _float_to_integer(step: Step, to: np.dtype, of: np.dtype):
    integral = _TO_INTEGRAL[step.has(*_TO_INTEGRAL) or "rzi"]
    ftz, limits = step.has("ftz") and of == np.float32, np.iinfo(to)
    low, high = float(limits.min), float(limits.max)

    def function(a):
        if ftz:
            a = flush(a)
        a = integral(a).astype(np.float64)
        below, above = a <= low, a >= high
        inside = np.where(below | above | np.isnan(a), 0.0, a)
        result = inside.astype(to if to.itemsize == 8 else np.int64).astype(to)
        return np.where(below, to.type(limits.min), np.where(above, to.type(limits.max), result))
    return function


def _integer_to_float(step: Step, to: np.dtype):
    mode, finish = step.has(*_DIRECTIONS) or "rn", _finish(step, to)

    def function(a):
        if mode == "rn":
            return finish(a.astype(to))
        # Split so that the two parts are exact in float64; their sum is the integer.
        low = a & a.dtype.type(0x7ff) if a.dtype.itemsize == 8 else a & a.dtype.type(0)
        high = (a - low).astype(np.float64)
        rest = low.astype(np.float64)
        total = high + rest
        return finish(narrow(total, (high - total) + rest, to, mode))
    return function


def _integer_to_integer(step: Step, to: np.dtype, of: np.dtype):
    if not step.has("sat"):
        return lambda a: a.astype(to)
    limits, own = np.iinfo(to), np.iinfo(of)
    low, high = max(limits.min, own.min), min(limits.max, own.max)
    return lambda a: np.clip(a, of.type(low), of.type(high)).astype(to)


def _two_halves(step: Step):
    """cvt.rn.f16x2.f32 d, a, b: a becomes the upper half, b the lower."""
    mode, finish = step.has(*_DIRECTIONS), _finish(step, np.dtype(np.float16))

    def half(a):
        wide = a.astype(np.float64)
        return finish(narrow(wide, np.zeros_like(wide), np.float16, mode)).view(np.uint16).astype(np.uint32)
    return step.map(lambda a, b: (half(a) << np.uint32(16)) | half(b), "f32", "f32")


def _bfloat16(step: Step, target: str, source: str):
    """bfloat16 to float32 and, rounded to nearest or to zero, back."""
    if (target, source) == ("f32", "bf16"):
        return step.map(lambda a: (a.astype(np.uint32) << np.uint32(16)).view(np.float32), "b16")
    if (target, source) != ("bf16", "f32") or step.has("sat", "relu") or not step.has("rn", "rz"):
        raise step.refuse("conversion of this type")
    nearest = step.has("rn")

    def cut(a):
        word = a.view(np.uint32)
        if nearest:     # half a unit, less one where that would not make an odd number even
            word = word + np.uint32(0x7fff) + ((word >> np.uint32(16)) & np.uint32(1))
        return np.where(np.isnan(a), np.uint32(0x7fff), word >> np.uint32(16)).astype(np.uint16)
    return step.map(cut, "f32")


@instruction("cvta")
def generic_address(step: Step):
    """An address of one space as a generic one, or back (.to)."""
    base = np.uint64(_BASES.get(step.has("shared", "local", "global", "const", "param"), 0))
    return step.map((lambda a: a - base) if step.has("to") else (lambda a: a + base), "u64")


@instruction("isspacep")
def is_space(step: Step):
    """Whether a generic address lies in a space."""
    low, high = {"global": (GLOBAL_BASE, 1 << 63), "const": (GLOBAL_BASE, 1 << 63), "shared": (SHARED_BASE, LOCAL_BASE),
                 "local": (LOCAL_BASE, GLOBAL_BASE)}[step.has("global", "const", "shared", "local")]
    return step.map(lambda a: (a >= np.uint64(low)) & (a < np.uint64(high)), "u64")
