"""Instructions on integers, bits and predicates: what each computes, as functions of NumPy arrays.

Shifts beyond the width, division by zero and the carry flag behave as the hardware's. 32-bit and 64-bit forms share their
code; the types of the arrays decide.
"""
from __future__ import annotations

import numpy as np

from .operands import DTYPES, PARTS, RAW, Step, instruction
from .rounding import divide, flush, high_product

_COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
            "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def saturated(function, dtype: np.dtype):
    """`function` of integers computed wider and clamped to the dtype's range (add.sat.s32)."""
    limits = np.iinfo(dtype)
    return lambda *a: np.clip(function(*[x.astype(np.int64) for x in a]), limits.min, limits.max).astype(dtype)


def multiply(step: Step):
    """The product that mul and mad ask for by .lo, .hi or .wide."""
    dtype = DTYPES[step.kind]
    if step.has("wide"):
        wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
        return lambda a, b: a.astype(wide) * b.astype(wide)
    return high_product if step.has("hi") else np.multiply


def integer_sum(step: Step, function):
    """add and sub of integers, with the carry flag or saturation where asked."""
    if step.has("cc") or step.opcode in ("addc", "subc"):
        return carried(step)
    if step.has("sat"):
        function = saturated(function, DTYPES[step.kind])
    return step.map_parts(function) if step.kind in PARTS else step.map(function)


@instruction("addc", "subc", "madc")
def carried(step: Step):
    """Arithmetic that takes the carry flag in, sets it (.cc), or both; the flag of a subtraction is the borrow."""
    raw = RAW[DTYPES[step.kind].itemsize]
    kind = f"u{8 * raw.itemsize}"
    readers = [step.read(k, kind) for k in range(1, len(step.arguments))]
    write, takes, sets = step.write(), step.opcode in ("addc", "subc", "madc"), step.has("cc")
    subtracts = step.opcode.startswith("sub")
    product = multiply(step) if step.opcode in ("mad", "madc") else None
    if product is high_product and DTYPES[step.kind].kind == "i":
        def product(a, b):
            return high_product(a.view(DTYPES[step.kind]), b.view(DTYPES[step.kind])).view(raw)

    def run(m, threads):
        values = [r(m, threads) for r in readers]
        a, b = (product(*values[:2]), values[2]) if product is not None else values
        flag = m.carry
        if threads is not None and len(flag) != 1:
            flag = flag[threads]
        carry = flag.astype(raw) if takes else np.zeros(1, raw)
        result = a - b - carry if subtracts else a + b + carry
        if sets:
            out = (a < b) | ((a == b) & (carry != 0)) if subtracts else (result < a) | ((result == a) & (carry != 0) & (b != 0))
            flags = np.empty(m.threads, np.int64)
            flags[:] = m.carry
            flags[slice(None) if threads is None else threads] = out
            m.carry = flags
        write(m, threads, result)
    return run


@instruction("rem")
def remainder(step: Step):
    """a - (a / b) * b with the quotient rounded to zero; a where b is 0."""
    return step.map(lambda a, b: np.where(b == 0, a, a - divide(a, b) * b))


@instruction("not", "cnot")
def inverted(step: Step):
    """Bits inverted; cnot: 1 where the value is 0."""
    if step.opcode == "cnot":
        return step.map(lambda a: (a == 0).astype(a.dtype))
    return step.map(np.invert)


@instruction("and", "or", "xor")
def logic(step: Step):
    """Bitwise operations on words, or on predicates."""
    return step.map({"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[step.opcode])


@instruction("mul24", "mad24")
def product24(step: Step):
    """Products of the lower 24 bits."""
    dtype = DTYPES[step.kind]

    def low(a):
        return (a << dtype.type(8)) >> dtype.type(8)

    def multiplied(a, b, *c):
        wide = low(a).astype(np.int64) * low(b).astype(np.int64)
        return (wide >> 16 if step.has("hi") else wide).astype(dtype) + (c[0] if c else dtype.type(0))
    return step.map(multiplied)


@instruction("sad")
def absolute_difference(step: Step):
    """|a - b| + c."""
    return step.map(lambda a, b, c: c + np.where(a < b, b - a, a - b))


@instruction("shl", "shr")
def shifted(step: Step):
    """Shifts; a distance beyond the width gives 0, or the sign."""
    n = 8 * DTYPES[step.kind].itemsize
    left = step.opcode == "shl"

    def shift(a, b):
        distance = np.minimum(b, np.uint32(n - 1)).astype(a.dtype)
        if not left and a.dtype.kind == "i":
            return a >> distance
        return np.where(b >= n, a.dtype.type(0), a << distance if left else a >> distance)
    return step.map(shift, step.kind, "u32")


@instruction("shf")
def funnel(step: Step):
    """A shift of two words taken as one."""
    wrap, left = step.has("wrap"), step.has("l")

    def shift(low, high, n):
        n = (n & np.uint32(31) if wrap else np.minimum(n, np.uint32(32))).astype(np.uint64)
        both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
        return ((both << n) >> np.uint64(32) if left else both >> n).astype(np.uint32)
    return step.map(shift, "u32", "u32", "u32")


@instruction("lop3")
def logic3(step: Step):
    """Any function of three bits, given by its table."""
    table = int(step.arguments[4], 0)

    def look_up(a, b, c):
        result = np.zeros(1, a.dtype)
        for k in range(8):
            if table >> k & 1:
                result = result | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
        return result
    return step.without(4).map(look_up)


_PERMUTATIONS = {       # for each value of the selector's lower two bits, the four bytes, lowest first
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0,) * 4, (1,) * 4, (2,) * 4, (3,) * 4),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


@instruction("prmt")
def permuted(step: Step):
    """Four bytes picked out of eight."""
    table = np.array(_PERMUTATIONS[mode]) if (mode := step.has(*_PERMUTATIONS)) else None

    def pick(a, b, selector):
        both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
        result = np.zeros(1, np.uint32)
        for k in range(4):
            chosen = table[selector & np.uint32(3), k].astype(np.uint32) if table is not None else selector >> np.uint32(4 * k)
            byte = (both >> (np.uint32(8) * (chosen & np.uint32(7))).astype(np.uint64)) & np.uint64(255)
            sign = (chosen & np.uint32(8) != 0) & (table is None)
            byte = np.where(sign, np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0)), byte)
            result = result | (byte.astype(np.uint32) << np.uint32(8 * k))
        return result
    return step.map(pick, "u32", "u32", "u32")


def bit_length(a: np.ndarray) -> np.ndarray:
    """The number of bits up to the highest one, of unsigned words."""
    a = a.copy()
    for distance in (1, 2, 4, 8, 16, 32)[:{4: 5, 8: 6}[a.dtype.itemsize]]:
        a |= a >> a.dtype.type(distance)
    return np.bitwise_count(a).astype(np.uint32)


@instruction("popc", "clz", "bfind", "fns")
def counted(step: Step):
    """Bits counted; leading zeros; the position of the highest bit (that differs from the sign)."""
    n = np.uint32(8 * DTYPES[step.kind].itemsize)
    raw = f"u{n}"
    if step.opcode == "popc":
        return step.map(lambda a: np.bitwise_count(a).astype(np.uint32), raw)
    if step.opcode == "clz":
        return step.map(lambda a: n - bit_length(a), raw)
    if step.opcode == "fns":
        raise step.refuse()

    def highest(a):
        if a.dtype.kind == "i":
            a = np.where(a < 0, ~a, a).view(RAW[a.dtype.itemsize])
        length = bit_length(a)
        found = n - length if step.has("shiftamt") else length - np.uint32(1)
        return np.where(length == 0, np.uint32(0xffffffff), found)
    return step.map(highest)


@instruction("brev")
def reversed_bits(step: Step):
    """Bits in the opposite order."""
    def reverse(a):
        data = np.ascontiguousarray(a)[:, None].view(np.uint8)
        swapped = np.packbits(np.unpackbits(data, axis=1)[:, ::-1], axis=1)
        return np.ascontiguousarray(swapped).view(a.dtype)[:, 0]
    return step.map(reverse, f"u{8 * DTYPES[step.kind].itemsize}")


def _low_bits(count: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Words whose `count` lowest bits are set."""
    n = 8 * dtype.itemsize
    shift = np.minimum(count, n - 1).astype(dtype)
    return np.where(count >= n, ~dtype.type(0), (dtype.type(1) << shift) - dtype.type(1))


@instruction("bfe")
def extracted(step: Step):
    """A field of bits, sign-extended where the type is signed."""
    dtype = DTYPES[step.kind]
    raw, n = RAW[dtype.itemsize], 8 * dtype.itemsize

    def extract(a, position, length):
        position, length = position & np.uint32(255), length & np.uint32(255)
        word = a.view(raw)
        outside = position >= n
        value = np.where(outside, raw.type(0), word >> np.minimum(position, n - 1).astype(raw)) & _low_bits(length, raw)
        if dtype.kind == "i":
            top = np.minimum(position + length - np.uint32(1), n - 1)
            sign = ((word >> top.astype(raw)) & raw.type(1) != 0) & (length > 0)
            value = np.where(sign, value | ~_low_bits(np.where(outside, 0, np.minimum(length, n - position)), raw), value)
        return value.view(dtype)
    return step.map(extract, step.kind, "u32", "u32")


@instruction("bfi")
def inserted(step: Step):
    """A field of bits of a put into b."""
    raw = RAW[DTYPES[step.kind].itemsize]
    n = 8 * raw.itemsize

    def insert(a, b, position, length):
        position, length = position & np.uint32(255), length & np.uint32(255)
        shift = np.minimum(position, n - 1).astype(raw)
        field = np.where(position >= n, raw.type(0), _low_bits(length, raw) << shift)
        return (b & ~field) | ((a << shift) & field)
    return step.map(insert, step.kind, step.kind, "u32", "u32")


@instruction("bmsk")
def mask(step: Step):
    """Bits set from a position on."""
    wrap = step.has("wrap")

    def bits(position, length):
        position, length = (position & np.uint32(31), length & np.uint32(31)) if wrap else (position, length)
        return np.where(position >= 32, np.uint32(0), _low_bits(length, np.dtype(np.uint32)) << np.minimum(position, np.uint32(31)))
    return step.map(bits, "u32", "u32")


@instruction("dp4a")
def dot_of_bytes(step: Step):
    """Four products of bytes, summed, plus c."""
    left, right = (DTYPES["s8"] if kind == "s32" else DTYPES["u8"] for kind in step.kinds[:2])
    result = DTYPES["s32"] if "s32" in step.kinds else DTYPES["u32"]

    def dot(a, b, c):
        x, y = (np.ascontiguousarray(v)[:, None].view(t).astype(np.int64) for v, t in ((a, left), (b, right)))
        return ((x * y).sum(axis=1) + c.astype(np.int64)).astype(result)
    return step.map(dot, "u32", "u32", "s32" if result.kind == "i" else "u32")


@instruction("setp", "set")
def compared(step: Step):
    """A comparison, combined with a predicate where asked; setp gives the opposite too, set gives a number."""
    words = step.modifiers
    how = words[0]
    kind = step.kinds[-1]
    floating = DTYPES[kind].kind == "f"
    ftz = kind == "f32" and step.has("ftz")
    if kind in ("f16x2", "bf16", "bf16x2"):
        raise step.refuse("comparison of this type")
    combine = _COMBINE[word] if (word := step.has(*_COMBINE)) else None
    first, second = step.read(1, kind), step.read(2, kind)
    third = step.read(3, "pred") if combine else None

    def compare(a, b):
        if ftz:
            a, b = flush(a), flush(b)
        if how in ("num", "nan"):
            unordered = np.isnan(a) | np.isnan(b)
            return unordered if how == "nan" else ~unordered
        if floating and len(how) == 3:
            return _COMPARE[how[:2]](a, b) | np.isnan(a) | np.isnan(b)
        if floating and how == "ne":
            return (a != b) & ~np.isnan(a) & ~np.isnan(b)
        return _COMPARE[how](a, b)

    def both(m, threads):
        result = compare(first(m, threads), second(m, threads))
        opposite = ~result
        if combine is not None:
            predicate = third(m, threads)
            return combine(result, predicate), combine(opposite, predicate)
        return result, opposite
    if step.opcode == "set":
        write, target = step.write(), DTYPES[step.kinds[0]]
        yes = target.type(1.0) if target.kind == "f" else np.array(-1).astype(target)[()]
        return lambda m, threads: write(m, threads, np.where(both(m, threads)[0], yes, target.type(0)))
    write, write_opposite = step.pair()

    def run(m, threads):
        result, opposite = both(m, threads)
        write(m, threads, result)
        if write_opposite is not None:
            write_opposite(m, threads, opposite)
    return run


@instruction("selp", "slct")
def selected(step: Step):
    """a where a predicate holds (selp) or a number is not negative (slct), else b."""
    if step.opcode == "slct":
        return step.map(lambda a, b, c: np.where(c >= 0, a, b), step.kinds[0], step.kinds[0], step.kinds[1])
    return step.map(lambda a, b, p: np.where(p, a, b), step.kind, step.kind, "pred")
