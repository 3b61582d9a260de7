"""Integer, bit and predicate instructions of the PTX interpreter against Python's integers."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_snippets import apply

from kernels.cuda.ptx.operands import DTYPES

COUNT = 256


def limits(kind: str) -> tuple[int, int]:
    n = 8 * DTYPES[kind].itemsize
    return (-(1 << n - 1), (1 << n - 1) - 1) if kind[0] == "s" else (0, (1 << n) - 1)


def wrapped(value: int, kind: str) -> int:
    low, high = limits(kind)
    return (value - low) % (high - low + 1) + low


def samples(rng, kind: str) -> np.ndarray:
    """Numbers of all sizes, with the ends of the range and their neighbours."""
    low, high = limits(kind)
    n = 8 * DTYPES[kind].itemsize
    values = [low, low + 1, high, high - 1, 0, 1, 2, 3, *([-1, -2] if low else []), *(1 << k for k in range(n - 1))]
    while len(values) < COUNT:
        values.append(wrapped(int.from_bytes(rng.bytes(8), "little") >> int(rng.integers(0, 64)), kind))
    return rng.permutation(np.array(values[:COUNT], DTYPES[kind]))


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def unsigned(value: int, kind: str) -> int:
    return value % (1 << 8 * DTYPES[kind].itemsize)


BINARY = {
    "add": lambda a, b, k: a + b, "sub": lambda a, b, k: a - b, "mul.lo": lambda a, b, k: a * b,
    "mul.hi": lambda a, b, k: a * b >> 8 * DTYPES[k].itemsize,
    "min": lambda a, b, k: min(a, b), "max": lambda a, b, k: max(a, b),
    "div": lambda a, b, k: quotient(a, b) if b else -1, "rem": lambda a, b, k: a - quotient(a, b) * b if b else a,
}


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic(name, kind, rng):
    a, b = samples(rng, kind), samples(rng, kind)
    got = apply(f"{name}.{kind} %q, %a, %b;", [(kind, a), (kind, b)], kind)
    assert got.tolist() == [wrapped(BINARY[name](int(x), int(y), kind), kind) for x, y in zip(a, b)]


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32"])
def test_wide_products(kind, rng):
    wide = kind[0] + str(2 * int(kind[1:]))
    a, b, c = samples(rng, kind), samples(rng, kind), samples(rng, wide)
    got = apply(f"mul.wide.{kind} %q, %a, %b;", [(kind, a), (kind, b)], wide)
    assert got.tolist() == [int(x) * int(y) for x, y in zip(a, b)]
    got = apply(f"mad.wide.{kind} %q, %a, %b, %c;", [(kind, a), (kind, b), (wide, c)], wide)
    assert got.tolist() == [wrapped(int(x) * int(y) + int(z), wide) for x, y, z in zip(a, b, c)]


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
def test_multiply_add(kind, rng):
    a, b, c = (samples(rng, kind) for _ in range(3))
    for part, shift in (("lo", 0), ("hi", 8 * DTYPES[kind].itemsize)):
        got = apply(f"mad.{part}.{kind} %q, %a, %b, %c;", [(kind, a), (kind, b), (kind, c)], kind)
        assert got.tolist() == [wrapped((int(x) * int(y) >> shift) + int(z), kind) for x, y, z in zip(a, b, c)]


@pytest.mark.parametrize("kind", ["s16", "s32", "s64"])
def test_signs(kind, rng):
    a = samples(rng, kind)
    assert apply(f"neg.{kind} %q, %a;", [(kind, a)], kind).tolist() == [wrapped(-int(x), kind) for x in a]
    assert apply(f"abs.{kind} %q, %a;", [(kind, a)], kind).tolist() == [wrapped(abs(int(x)), kind) for x in a]


@pytest.mark.parametrize("kind,name", [("s16x2", "add"), ("u16x2", "add"), ("s16x2", "min"), ("u16x2", "max")])
def test_pairs_of_16_bits(kind, name, rng):
    part = {"s": np.int16, "u": np.uint16}[kind[0]]
    a, b = samples(rng, "u32"), samples(rng, "u32")
    got = apply(f"{name}.{kind} %q, %a, %b;", [("b32", a), ("b32", b)], "b32")
    function = {"add": np.add, "min": np.minimum, "max": np.maximum}[name]
    assert np.array_equal(got.view(part), function(a.view(part), b.view(part)))


def test_saturation(rng):
    a, b = samples(rng, "s32"), samples(rng, "s32")
    low, high = limits("s32")
    for name, sign in (("add", 1), ("sub", -1)):
        got = apply(f"{name}.sat.s32 %q, %a, %b;", [("s32", a), ("s32", b)], "s32")
        assert got.tolist() == [min(max(int(x) + sign * int(y), low), high) for x, y in zip(a, b)]


@pytest.mark.parametrize("kind", ["b16", "b32", "b64"])
def test_logic(kind, rng):
    u = "u" + kind[1:]
    a, b = samples(rng, u), samples(rng, u)
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        assert np.array_equal(apply(f"{name}.{kind} %q, %a, %b;", [(kind, a), (kind, b)], kind), function(a, b))
    assert np.array_equal(apply(f"not.{kind} %q, %a;", [(kind, a)], kind), ~a)
    assert np.array_equal(apply(f"cnot.{kind} %q, %a;", [(kind, a)], kind), a == 0)


@pytest.mark.parametrize("kind", ["b32", "b64", "s16", "s32", "s64", "u16", "u32", "u64"])
def test_shifts(kind, rng):
    a = samples(rng, kind.replace("b", "u"))
    b = rng.integers(0, 80, COUNT).astype(np.uint32)
    b[:4] = 2**32 - 1
    n = 8 * DTYPES[kind].itemsize
    if kind[0] != "s":
        got = apply(f"shl.b{n} %q, %a, %b;", [(kind, a), ("u32", b)], f"b{n}")
        assert got.tolist() == [int(x) << int(min(y, n)) & (1 << n) - 1 if y < n else 0 for x, y in zip(a, b)]
    got = apply(f"shr.{kind} %q, %a, %b;", [(kind, a), ("u32", b)], kind)
    assert got.tolist() == [int(x) >> int(min(y, n)) for x, y in zip(a, b)]


@pytest.mark.parametrize("mode", ["wrap", "clamp"])
def test_funnel_shifts(mode, rng):
    a, b = samples(rng, "u32"), samples(rng, "u32")
    c = rng.integers(0, 70, COUNT).astype(np.uint32)
    both = [int(x) | int(y) << 32 for x, y in zip(a, b)]
    distance = [int(z) & 31 if mode == "wrap" else min(int(z), 32) for z in c]
    inputs = [("b32", a), ("b32", b), ("u32", c)]
    left = apply(f"shf.l.{mode}.b32 %q, %a, %b, %c;", inputs, "b32")
    right = apply(f"shf.r.{mode}.b32 %q, %a, %b, %c;", inputs, "b32")
    assert left.tolist() == [(v << d) >> 32 & 0xffffffff for v, d in zip(both, distance)]
    assert right.tolist() == [v >> d & 0xffffffff for v, d in zip(both, distance)]


@given(st.integers(0, 255), st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), min_size=8, max_size=8))
@settings(max_examples=25, deadline=None)
def test_logic_by_table(table, words):
    a, b, c = (np.array(v, np.uint32) for v in zip(*words))
    got = apply(f"lop3.b32 %q, %a, %b, %c, {table:#x};", [("b32", a), ("b32", b), ("b32", c)], "b32")
    for x, y, z, q in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist()):
        for k in range(32):
            assert q >> k & 1 == table >> ((x >> k & 1) * 4 + (y >> k & 1) * 2 + (z >> k & 1)) & 1


def permuted(a: int, b: int, selector: int, mode: str) -> int:
    data = [(a | b << 32) >> 8 * k & 255 for k in range(8)]
    if mode == "":
        picks = [selector >> 4 * k & 15 for k in range(4)]
        return sum(((255 if data[p & 7] & 128 else 0) if p & 8 else data[p & 7]) << 8 * k for k, p in enumerate(picks))
    s = selector & 3
    order = {"f4e": [s + k for k in range(4)], "b4e": [(s - k) % 8 for k in range(4)], "rc8": [s] * 4,
             "ecl": [max(k, s) for k in range(4)], "ecr": [min(k, s) for k in range(4)],
             "rc16": [0, 1, 0, 1] if s % 2 == 0 else [2, 3, 2, 3]}[mode]
    return sum(data[p] << 8 * k for k, p in enumerate(order))


@pytest.mark.parametrize("mode", ["", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"])
def test_permutations_of_bytes(mode, rng):
    a, b, c = (samples(rng, "u32") for _ in range(3))
    got = apply(f"prmt.b32{'.' * bool(mode)}{mode} %q, %a, %b, %c;", [("b32", a), ("b32", b), ("b32", c)], "b32")
    assert got.tolist() == [permuted(int(x), int(y), int(z), mode) for x, y, z in zip(a, b, c)]


@pytest.mark.parametrize("n", [32, 64])
def test_counting_bits(n, rng):
    a = samples(rng, f"u{n}")
    value = [int(x) for x in a]
    assert apply(f"popc.b{n} %q, %a;", [(f"b{n}", a)], "u32").tolist() == [x.bit_count() for x in value]
    assert apply(f"clz.b{n} %q, %a;", [(f"b{n}", a)], "u32").tolist() == [n - x.bit_length() for x in value]
    assert apply(f"brev.b{n} %q, %a;", [(f"b{n}", a)], f"b{n}").tolist() == [int(f"{x:0{n}b}"[::-1], 2) for x in value]
    none = 0xffffffff
    assert apply(f"bfind.u{n} %q, %a;", [(f"u{n}", a)], "u32").tolist() == [x.bit_length() - 1 if x else none for x in value]
    signed = [x - (1 << n) if x >> n - 1 else x for x in value]
    length = [(~x if x < 0 else x).bit_length() for x in signed]
    assert apply(f"bfind.s{n} %q, %a;", [(f"s{n}", a)], "u32").tolist() == [k - 1 if k else none for k in length]
    shift = apply(f"bfind.shiftamt.s{n} %q, %a;", [(f"s{n}", a)], "u32")
    assert shift.tolist() == [n - k if k else none for k in length]


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_fields_of_bits(kind, rng):
    n = 8 * DTYPES[kind].itemsize
    a, b = samples(rng, kind), samples(rng, f"u{n}")
    position, length = (rng.integers(0, top, COUNT).astype(np.uint32) for top in (n + 8, n + 8))
    got = apply(f"bfe.{kind} %q, %a, %b, %c;", [(kind, a), ("u32", position), ("u32", length)], kind)
    for x, p, size, q in zip(a.tolist(), position.tolist(), length.tolist(), got.tolist()):
        word = unsigned(x, kind)
        field = (word >> p) & ((1 << size) - 1)
        if kind[0] == "s" and size and word >> min(p + size - 1, n - 1) & 1:
            field |= -1 << min(size, max(0, n - p))
        assert unsigned(q, kind) == unsigned(field, kind), (x, p, size)
    if kind[0] == "u":
        inputs = [(f"b{n}", a), (f"b{n}", b), ("u32", position), ("u32", length)]
        got = apply(f"bfi.b{n} %q, %a, %b, %c, %d;", inputs, f"b{n}")
        for x, y, p, size, q in zip(a.tolist(), b.tolist(), position.tolist(), length.tolist(), got.tolist()):
            field = ((1 << size) - 1) << p
            assert q == ((y & ~field) | (x << p & field)) & (1 << n) - 1


@given(st.lists(st.tuples(*[st.integers(0, 2**128 - 1)] * 2), min_size=4, max_size=4))
@settings(max_examples=15, deadline=None)
def test_carry_flags(pairs):
    """128-bit sums, differences and products from 32-bit and 64-bit instructions."""
    mask = (1 << 64) - 1
    words = [np.array([v >> s & mask for v in values], np.uint64) for values in zip(*pairs) for s in (0, 64)]
    inputs = list(zip(["u64"] * 4, words))       # %a, %b: first number; %c, %d: second
    for name, sign in (("add", 1), ("sub", -1)):
        for n in (64, 32):
            if n == 64:
                lines = f"{name}.cc.u64 %rd3, %a, %c; {name}c.u64 %q, %b, %d;"
            else:
                lines = ("mov.b64 {%r10, %r11}, %a; mov.b64 {%r12, %r13}, %b; mov.b64 {%r14, %r15}, %c; mov.b64 {%r16, %r17}, %d;"
                         f"{name}.cc.u32 %r20, %r10, %r14; {name}c.cc.u32 %r21, %r11, %r15; {name}c.cc.u32 %r22, %r12, %r16;"
                         f"{name}c.u32 %r23, %r13, %r17; mov.b64 %q, {{%r22, %r23}};")
            assert apply(lines, inputs, "u64").tolist() == [(x + sign * y) >> 64 & mask for x, y in pairs]
    product = ("mul.hi.u64 %rd5, %a, %c; mad.lo.cc.u64 %rd6, %a, %d, %rd5; madc.hi.u64 %rd7, %a, %d, 0;"
               "mad.lo.cc.u64 %rd8, %b, %c, %rd6; madc.hi.u64 %rd9, %b, %c, %rd7; mad.lo.u64 %q, %b, %d, %rd9;")
    expected = [((x & mask) * (y & mask) + (((x & mask) * (y >> 64) + (x >> 64) * (y & mask)) << 64) >> 128) for x, y in pairs]
    got = apply(product, inputs, "u64")
    assert got.tolist() == [(e + (x >> 64) * (y >> 64)) & mask for e, (x, y) in zip(expected, pairs)]


def test_products_of_24_bits_and_of_bytes(rng):
    a, b, c = (samples(rng, "s32") for _ in range(3))
    low = [((int(x) & 0xffffff) ^ 0x800000) - 0x800000 for x in a], [((int(x) & 0xffffff) ^ 0x800000) - 0x800000 for x in b]
    got = apply("mad24.lo.s32 %q, %a, %b, %c;", [("s32", a), ("s32", b), ("s32", c)], "s32")
    assert got.tolist() == [wrapped(wrapped(x * y, "s32") + int(z), "s32") for x, y, z in zip(*low, c)]
    got = apply("dp4a.s32.u32 %q, %a, %b, %c;", [("b32", a), ("b32", b), ("s32", c)], "s32")
    dots = [sum(int(x.view(np.int8)) * int(y) for x, y in zip(np.array([p]).view(np.uint8), np.array([q]).view(np.uint8)))
            for p, q in zip(a, b)]
    assert got.tolist() == [wrapped(d + int(z), "s32") for d, z in zip(dots, c)]
    got = apply("sad.s32 %q, %a, %b, %c;", [("s32", a), ("s32", b), ("s32", c)], "s32")
    assert got.tolist() == [wrapped(abs(int(x) - int(y)) + int(z), "s32") for x, y, z in zip(a, b, c)]
    position, length = (rng.integers(0, 40, COUNT).astype(np.uint32) for _ in range(2))
    got = apply("bmsk.clamp.b32 %q, %a, %b;", [("u32", position), ("u32", length)], "b32")
    assert got.tolist() == [((1 << int(s)) - 1) << int(p) & 0xffffffff for p, s in zip(position, length)]


COMPARISONS = {"eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
               "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b}


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_comparisons(kind, rng):
    a, b = samples(rng, kind), samples(rng, kind)
    b[::3] = a[::3]
    words = {**COMPARISONS}
    if kind[0] == "u":
        words |= {"lo": COMPARISONS["lt"], "ls": COMPARISONS["le"], "hi": COMPARISONS["gt"], "hs": COMPARISONS["ge"]}
    for word, function in words.items():
        got = apply(f"setp.{word}.{kind} %p1|%p2, %a, %b; selp.u32 %r10, 1, 0, %p1; selp.u32 %r11, 2, 0, %p2;"
                    "or.b32 %q, %r10, %r11;",
                    [(kind, a), (kind, b)], "u32")
        assert np.array_equal(got, np.where(function(a, b), 1, 2)), word
        got = apply(f"set.{word}.s32.{kind} %q, %a, %b;", [(kind, a), (kind, b)], "s32")
        assert np.array_equal(got, np.where(function(a, b), -1, 0)), word


@pytest.mark.parametrize("word", ["and", "or", "xor"])
def test_comparisons_with_a_predicate(word, rng):
    a, b = samples(rng, "s32"), samples(rng, "s32")
    function = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[word]
    got = apply(f"setp.gt.s32 %p1, %a, 0; setp.lt.{word}.s32 %p2|%p3, %a, %b, !%p1; {word}.pred %p4, %p1, %p2; not.pred %p5, %p4;"
                "selp.u32 %r10, 1, 0, %p2; selp.u32 %r11, 2, 0, %p3; selp.u32 %r12, 4, 0, %p5; add.u32 %q, %r10, %r11;"
                "add.u32 %q, %q, %r12;", [("s32", a), ("s32", b)], "u32")
    less, positive = function(a < b, ~(a > 0)), a > 0
    expected = less + 2 * function(a >= b, ~positive) + 4 * ~function(positive, less)
    assert np.array_equal(got, expected)


def test_choice_by_a_number(rng):
    a, b, c = (samples(rng, "s32") for _ in range(3))
    got = apply("slct.s32.s32 %q, %a, %b, %c;", [("s32", a), ("s32", b), ("s32", c)], "s32")
    assert np.array_equal(got, np.where(c >= 0, a, b))


@pytest.mark.parametrize("target", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("source", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
def test_conversions(source, target, rng):
    a = samples(rng, source)
    low, high = limits(target)
    got = apply(f"cvt.{target}.{source} %q, %a;", [(source, a)], target)
    assert got.tolist() == [wrapped(int(x), target) for x in a]
    got = apply(f"cvt.sat.{target}.{source} %q, %a;", [(source, a)], target)
    assert got.tolist() == [min(max(int(x), low), high) for x in a]


def test_narrow_values_in_wide_registers(rng):
    """Signed values are sign-extended into a wider register, unsigned ones zero-extended."""
    a = samples(rng, "s8")
    assert apply("cvt.s8.s8 %r10, %a; mov.b32 %q, %r10;", [("s8", a)], "s32").tolist() == a.tolist()
    assert apply("cvt.u8.u8 %r10, %a; mov.b32 %q, %r10;", [("u8", a)], "s32").tolist() == a.view(np.uint8).tolist()


def test_packing(rng):
    a, b = samples(rng, "u32"), samples(rng, "u32")
    got = apply("mov.b64 %rd3, {%a, %b}; mov.b64 {%r10, %r11}, %rd3; mov.b32 {%h1, %h2}, %r11; mov.b32 %r12, {%h2, %h1};"
                "mov.b64 %q, {%r12, %r10};", [("b32", a), ("b32", b)], "u64")
    assert got.tolist() == [int(x) << 32 | (int(y) >> 16 | int(y) << 16 & 0xffffffff) for x, y in zip(a, b)]
    got = apply("mov.b64 {_, %q}, %a;", [("b64", a.astype(np.uint64) << np.uint64(32))], "u32")
    assert np.array_equal(got, a)
