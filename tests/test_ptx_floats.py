"""Floating point instructions of the PTX interpreter against exact fractions, rounded here in every direction."""
from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_snippets import apply

from kernels.cuda.ptx import UnsupportedInstruction
from kernels.cuda.ptx.operands import DTYPES

COUNT = 256
FORMATS = {"f16": (11, -14, 15), "f32": (24, -126, 127), "f64": (53, -1022, 1023)}     # digits, least and greatest exponent
MODES = ["rn", "rz", "rm", "rp"]


def rounded(value: Fraction, kind: str, mode: str) -> float:
    """An exact number in a format; the sign of a zero is the exact number's (0.0 for zero itself)."""
    digits, least, greatest = FORMATS[kind]
    if value == 0:
        return 0.0
    size, sign = abs(value), 1 if value > 0 else -1
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    unit = Fraction(2) ** (max(exponent, least) - digits + 1)
    units = size / unit
    down = math.floor(units)
    rest = units - down
    away = mode == ("rp" if value > 0 else "rm")
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2) if mode == "rn" else rest > 0 and away
    result = (down + bool(up)) * unit
    largest = (2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** greatest
    if result > largest:
        return math.copysign(math.inf if mode == "rn" or away else float(largest), sign)
    return math.copysign(float(result), sign)


def samples(rng, kind: str, spread: int = 12) -> np.ndarray:
    """Numbers of many magnitudes, zeros, subnormal numbers, ones that are close to each other, and the largest."""
    dtype = DTYPES[kind]
    info = np.finfo(dtype)
    spread = min(spread, 13) if kind == "f16" else spread
    values = np.clip(rng.normal(size=COUNT), -3, 3) * 2.0 ** rng.integers(-spread, spread, COUNT)
    values[:12] = [0, 1, -1, float(info.tiny), -float(info.tiny) / 2, float(info.max), -float(info.max), 3, 0.5,
                   1 + float(info.eps),
                   float(info.smallest_subnormal), 1 - float(info.eps) / 2]
    return rng.permutation(values).astype(dtype)


def same(got: np.ndarray, expected: list[float]) -> None:
    expected = np.array(expected, got.dtype)
    wrong = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
    assert not wrong.any(), (got[wrong][:3], expected[wrong][:3])


def exact(*values) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


@pytest.mark.parametrize("kind,mode", [("f16", "rn"), *((kind, mode) for kind in ("f32", "f64") for mode in MODES)])
def test_arithmetic_is_rounded_exactly(kind, mode, rng):
    a, b, c = samples(rng, kind), samples(rng, kind), samples(rng, kind)
    with np.errstate(over="ignore"):        # sums that cancel, and quotients that are nearly 1
        near, product = a * DTYPES[kind].type(1 + float(np.finfo(DTYPES[kind]).eps) * 3), a * b
    b[::4] = np.where(np.isfinite(near), near, a)[::4]
    c[::3] = -np.where(np.isfinite(product), product, a)[::3]
    pairs = [(kind, a), (kind, b)]
    for name, function in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y), ("mul", lambda x, y: x * y)):
        got = apply(f"{name}.{mode}.{kind} %q, %a, %b;", pairs, kind)
        same(got, [rounded(function(*exact(x, y)), kind, mode) for x, y in zip(a, b)])
    got = apply(f"fma.{mode}.{kind} %q, %a, %b, %c;", [*pairs, (kind, c)], kind)
    same(got, [rounded((p := exact(x, y, z))[0] * p[1] + p[2], kind, mode) for x, y, z in zip(a, b, c)])
    if kind != "f16":
        b = np.where(b == 0, DTYPES[kind].type(3), b)
        got = apply(f"div.{mode}.{kind} %q, %a, %b;", [(kind, a), (kind, b)], kind)
        same(got, [rounded((p := exact(x, y))[0] / p[1], kind, mode) for x, y in zip(a, b)])
        got = apply(f"rcp.{mode}.{kind} %q, %a;", [(kind, b)], kind)
        same(got, [rounded(1 / exact(x)[0], kind, mode) for x in b])
        got = apply(f"sqrt.{mode}.{kind} %q, %a;", [(kind, np.abs(b))], kind)
        same(got, [root(Fraction(abs(float(x))), kind, mode) for x in b])


def root(value: Fraction, kind: str, mode: str) -> float:
    """The square root: of an integer scaled up so far that the digits left out do not matter, and marked as inexact."""
    shift = 400 + (value.denominator.bit_length() % 2)
    scaled = value.numerator * (1 << 2 * shift) * value.denominator
    floor = math.isqrt(scaled)
    inexact = Fraction(1, 3) if floor * floor != scaled else 0
    return rounded((floor + inexact) / (Fraction(1 << shift) * value.denominator), kind, mode)


@given(st.lists(st.tuples(*[st.floats(width=32)] * 3), min_size=8, max_size=8))
@settings(max_examples=25, deadline=None)
def test_multiply_add_of_any_float32(triples):
    a, b, c = (np.array(v, np.float32) for v in zip(*triples))
    got = apply("fma.rn.f32 %q, %a, %b, %c;", [("f32", a), ("f32", b), ("f32", c)], "f32")
    for x, y, z, q in zip(a, b, c, got):
        if np.isfinite([x, y, z]).all():
            p = exact(x, y, z)
            assert q == np.float32(rounded(p[0] * p[1] + p[2], "f32", "rn"))
        else:
            with np.errstate(invalid="ignore"):
                expected = np.float64(x) * np.float64(y) + np.float64(z)
            assert q == expected or np.isnan([q, expected]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target,source", [("f32", "f64"), ("f16", "f32"), ("f16", "f64"), ("f64", "f32"), ("f32", "f16")])
def test_conversions_between_formats(target, source, mode, rng):
    a = samples(rng, source, 20)
    widens = FORMATS[target] > FORMATS[source]
    got = apply(f"cvt{'' if widens else '.' + mode}.{target}.{source} %q, %a;", [(source, a)], target)
    same(got, [float(x) if widens else rounded(exact(x)[0], target, mode) for x in a])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["f16", "f32", "f64"])
@pytest.mark.parametrize("source", ["u16", "s32", "u32", "s64", "u64"])
def test_integers_to_floats(source, target, mode, rng):
    info = np.iinfo(DTYPES[source])
    a = rng.integers(info.min, info.max, COUNT, DTYPES[source], endpoint=True) >> rng.integers(0, info.bits,
        COUNT).astype(info.dtype)
    a[:4] = [0, info.max, info.min, info.max - 1]
    got = apply(f"cvt.{mode}.{target}.{source} %q, %a;", [(source, a)], target)
    same(got, [rounded(Fraction(int(x)), target, mode) for x in a])


@pytest.mark.parametrize("mode,function", [("rni", round), ("rzi", math.trunc), ("rmi", math.floor), ("rpi", math.ceil)])
@pytest.mark.parametrize("source", ["f16", "f32", "f64"])
def test_floats_to_integers_are_clamped(source, mode, function, rng):
    a = np.concatenate([samples(rng, source, 34)[:COUNT - 4], np.array([np.inf, -np.inf, np.nan, -0.5], DTYPES[source])])
    a[::5] = (rng.integers(-9, 9, len(a[::5])) + 0.5).astype(a.dtype)
    for target in ("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"):
        low, high = np.iinfo(DTYPES[target]).min, np.iinfo(DTYPES[target]).max
        expected = [0 if x != x else (high if x > 0 else low) if math.isinf(x) else min(max(function(x), low), high)
                    for x in map(float, a)]
        assert apply(f"cvt.{mode}.{target}.{source} %q, %a;", [(source, a)], target).tolist() == expected, target
    got = apply(f"cvt.{mode}.{source}.{source} %q, %a;", [(source, a)], source)
    same(got, [x if not math.isfinite(x) else float(function(x)) for x in map(float, a)])


def test_saturation_and_flushing(rng):
    a = samples(rng, "f32")
    a[0] = np.nan
    tiny = np.finfo(np.float32).tiny
    a[10:40] = (rng.normal(size=30) * tiny).astype(np.float32)
    clipped = np.where(np.isnan(a), 0, np.clip(a, 0, 1))
    assert np.array_equal(apply("cvt.sat.f32.f32 %q, %a;", [("f32", a)], "f32"), clipped)
    assert np.array_equal(apply("add.sat.f32 %q, %a, 0f00000000;", [("f32", a)], "f32"), clipped)
    flushed = np.where(np.abs(a) < tiny, 0, a)
    same(apply("add.ftz.f32 %q, %a, 0f00000000;", [("f32", a)], "f32"), flushed.tolist())
    same(apply("mul.ftz.f32 %q, %a, %b;", [("f32", a), ("f32", np.full(COUNT, 0.75, np.float32))], "f32"),
         np.where(np.abs(p := flushed * np.float32(0.75)) < tiny, 0, p).tolist())
    same(apply("fma.rn.relu.f16 %q, %a, %b, %b;", [("f16", x := samples(rng, "f16")), ("f16", y := samples(rng, "f16"))], "f16"),
         [max(0.0, rounded((p := exact(u, v))[0] * p[1] + p[1], "f16", "rn")) for u, v in zip(x, y)])


def test_smaller_and_larger(rng):
    a, b = samples(rng, "f32"), samples(rng, "f32")
    a[:4], b[:4] = [np.nan, 1, 0.0, -0.0], [1, np.nan, -0.0, 0.0]
    pairs = [("f32", a), ("f32", b)]
    low, high = apply("min.f32 %q, %a, %b;", pairs, "f32"), apply("max.f32 %q, %a, %b;", pairs, "f32")
    assert np.array_equal(low, np.fmin(a, b)) and np.array_equal(high, np.fmax(a, b))
    assert np.signbit(low[2:4]).all() and not np.signbit(high[2:4]).any()
    assert np.isnan(apply("min.NaN.f32 %q, %a, %b;", pairs, "f32")[:2]).all()
    same(apply("abs.f32 %q, %a;", pairs[:1], "f32"), np.abs(a).tolist())
    assert np.array_equal(apply("neg.f32 %q, %a;", pairs[:1], "f32").view(np.uint32)[1:], (-a).view(np.uint32)[1:])
    got = apply("copysign.f32 %q, %a, %b;", pairs, "f32")       # the sign of the first, the size of the second
    same(got, np.copysign(b, a).tolist())


def test_comparisons_with_nan(rng):
    a, b = samples(rng, "f64"), samples(rng, "f64")
    b[::3], a[::7], b[::5] = a[::3], np.nan, np.nan
    nan = np.isnan(a) | np.isnan(b)
    for word, function in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal), ("gt", np.greater),
                           ("ge", np.greater_equal)):
        got = apply(f"setp.{word}.f64 %p1, %a, %b; setp.{word}u.f64 %p2, %a, %b; selp.u32 %r10, 1, 0, %p1; "
                    "selp.u32 %r11, 2, 0, %p2;"
                    "or.b32 %q, %r10, %r11;", [("f64", a), ("f64", b)], "u32")
        truth = function(a, b)
        assert np.array_equal(got, (truth & ~nan) + 2 * (truth | nan)), word
    for word, truth in (("num", ~nan), ("nan", nan)):
        got = apply(f"setp.{word}.f64 %p1, %a, %b; selp.u32 %q, 1, 0, %p1;", [("f64", a), ("f64", b)], "u32")
        assert np.array_equal(got, truth), word
    a[1], a[2] = np.inf, 1e-310
    tests = {"finite": np.isfinite(a), "infinite": np.isinf(a), "notanumber": np.isnan(a), "number": ~np.isnan(a),
             "normal": np.isfinite(a) & (np.abs(a) >= np.finfo(np.float64).tiny), "subnormal": (a != 0) & (np.abs(a) < 2.0**-1022)}
    for word, truth in tests.items():
        got = apply(f"testp.{word}.f64 %p1, %a; selp.u32 %q, 1, 0, %p1;", [("f64", a)], "u32")
        assert np.array_equal(got, truth), word


@pytest.mark.parametrize("name,function", [("ex2", np.exp2), ("lg2", lambda x: np.log2(np.abs(x))), ("sin", np.sin), ("cos",
    np.cos),
                                           ("tanh", np.tanh), ("rsqrt", lambda x: 1 / np.sqrt(np.abs(x))),
                                           ("rcp", lambda x: 1 / x), ("sqrt", lambda x: np.sqrt(np.abs(x)))])
def test_approximations(name, function, rng):
    a = rng.normal(size=COUNT).astype(np.float32) * 3
    given_ = np.abs(a) if name in ("lg2", "rsqrt", "sqrt") else a
    got = apply(f"{name}.approx.f32 %q, %a;", [("f32", given_)], "f32")
    np.testing.assert_allclose(got, function(a.astype(np.float64)), rtol=1e-7, atol=1e-12)


def test_approximations_of_float64_give_the_upper_half(rng):
    a = np.abs(rng.normal(size=COUNT)) + 0.1
    for name, function in (("rcp", lambda x: 1 / x), ("rsqrt", lambda x: 1 / np.sqrt(x))):
        got = apply(f"{name}.approx.ftz.f64 %q, %a;", [("f64", a)], "f64")
        assert not (got.view(np.uint64) & np.uint64(0xffffffff)).any()
        np.testing.assert_allclose(got, function(a), rtol=2.0**-20)


def test_pairs_of_float16(rng):
    parts = [samples(rng, "f16", 4) for _ in range(4)] + [samples(rng, "f16", 4) for _ in range(2)]
    a, b, c = (np.stack(p, 1).copy().view(np.uint32)[:, 0] for p in (parts[:2], parts[2:4], parts[4:]))
    inputs = [("f16x2", a), ("f16x2", b), ("f16x2", c)]
    got = apply("fma.rn.f16x2 %q, %a, %b, %c;", inputs, "f16x2").view(np.float16).reshape(-1, 2)
    for k in (0, 1):
        same(got[:, k], [rounded((p := exact(x, y, z))[0] * p[1] + p[2], "f16", "rn")
                         for x, y, z in zip(parts[k], parts[2 + k], parts[4 + k])])
    got = apply("add.f16x2 %q, %a, %b;", inputs[:2], "f16x2").view(np.float16).reshape(-1, 2)
    with np.errstate(over="ignore"):
        same(got[:, 1], (parts[1] + parts[3]).tolist())
    x, y = samples(rng, "f32", 8), samples(rng, "f32", 8)
    got = apply("cvt.rz.f16x2.f32 %q, %a, %b;", [("f32", x), ("f32", y)], "f16x2").view(np.float16).reshape(-1, 2)
    same(got[:, 1], [rounded(exact(v)[0], "f16", "rz") for v in x])
    same(got[:, 0], [rounded(exact(v)[0], "f16", "rz") for v in y])


def test_pairs_of_float32(rng):
    parts = [samples(rng, "f32") for _ in range(6)]
    a, b, c = (np.stack(p, 1).copy().view(np.uint64)[:, 0] for p in (parts[:2], parts[2:4], parts[4:]))
    got = apply("fma.rn.f32x2 %q, %a, %b, %c;", [("b64", a), ("b64", b), ("b64", c)], "b64").view(np.float32).reshape(-1, 2)
    for k in (0, 1):
        same(got[:, k], [rounded((p := exact(x, y, z))[0] * p[1] + p[2], "f32", "rn")
                         for x, y, z in zip(parts[k], parts[2 + k], parts[4 + k])])
    with pytest.raises(UnsupportedInstruction, match=r"rounding \.rz of pairs"):
        apply("add.rz.f32x2 %q, %a, %b;", [("b64", a), ("b64", b)], "b64")


def test_the_largest_of_three(rng):
    a, b, c = (samples(rng, "f32") for _ in range(3))
    got = apply("max.f32 %q, %a, %b, %c;", [("f32", a), ("f32", b), ("f32", c)], "f32")
    assert np.array_equal(got, np.maximum(np.maximum(a, b), c))


def test_numbers_in_the_text(rng):
    a = samples(rng, "f64", 4)
    got = apply("add.f64 %q, %a, 0d3FF8000000000000; mov.f64 %fd1, -2.5e-1; add.f64 %q, %q, %fd1;", [("f64", a)], "f64")
    same(got, (a + 1.5 - 0.25).tolist())


def test_bfloat16(rng):
    a = samples(rng, "f32")
    a = np.where(np.abs(a) > 1e38, np.float32(1), a)
    got = apply("cvt.rn.bf16.f32 %h1, %a; cvt.f32.bf16 %q, %h1;", [("f32", a)], "f32")
    step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(a.astype(np.float64)), 2.0**-126))) - 7)
    same(got, (np.rint(a / step) * step).tolist())


def test_what_is_not_known_is_refused_by_name():
    ones = np.ones(32, np.float32)
    for lines in ("add.rn.bf16 %h1, %h2, %h3; mov.f32 %q, %a;", "cvt.rna.tf32.f32 %r1, %a; mov.f32 %q, %a;",
                  "cp.async.ca.shared.global [%r1], [%rd1], 4; mov.f32 %q, %a;",
                  "tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd1, {%r1}]; mov.f32 %q, %a;",
                  "wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%rd1]; mov.f32 %q, %a;"):
        with pytest.raises(UnsupportedInstruction, match=rf"not interpreted[\s\S]*PTX line \d+ `{lines.split()[0]}"):
            apply(lines, [("f32", ones)], "f32")
