"""Instructions on floating point numbers, and the arithmetic that both kinds of number share (add, min, abs, ...).

Rounding is exact in every direction (rounding.py). Approximate instructions (ex2.approx, sin.approx, ...) are computed in
float64 and rounded once; those that give only the upper half of a float64 keep that.
"""
from __future__ import annotations

import operator

import numpy as np

from .instructions_integer import carried, integer_sum, multiply, saturated
from .operands import DTYPES, PARTS, Step, instruction
from .rounding import directed, divide, flush, fma, narrow, quotient, root, saturate, sum_of_three, two_product, two_sum

_DIRECTIONS = ("rz", "rm", "rp")


def floating(step: Step, nearest, exact=None, plain=None):
    """The step of a floating point operation. `nearest` rounds to nearest in the operands' dtype; `exact` gives the exact
    result of float64 operands as a pair, for the directed roundings, and `plain` computes with fractions."""
    if len(step.kinds) > 1:
        raise step.refuse(f"arithmetic of mixed precision (.{'.'.join(step.kinds)})")
    dtype = DTYPES[step.kind]
    mode, ftz, sat, relu = step.has(*_DIRECTIONS), step.has("ftz"), step.has("sat"), step.has("relu")

    def finish(r):
        if ftz and r.dtype == np.float32:
            r = flush(r)
        if sat:
            r = saturate(r)
        return np.where(np.isnan(r), r, np.maximum(r, r.dtype.type(0))) if relu else r

    if step.kind in PARTS:
        if mode:
            raise step.refuse(f"rounding .{mode} of pairs")
        return step.map_parts(lambda *a: finish(nearest(*([flush(x) for x in a] if ftz and a[0].dtype == np.float32 else a))))
    if dtype.kind != "f":
        raise step.refuse(f"arithmetic on .{step.kind}")
    if mode and exact is None:
        raise step.refuse(f"rounding .{mode}")

    def compute(*a):
        if ftz and dtype == np.float32:
            a = [flush(x) for x in a]
        if mode:
            if dtype == np.float64:
                return finish(directed(plain or nearest, exact, a, mode))
            return finish(narrow(*exact(*[x.astype(np.float64) for x in a]), dtype, mode))
        return finish(nearest(*a))
    return step.map(compute if mode or ftz or sat or relu else nearest)


def _is_floating(step: Step) -> bool:
    return step.kind[0] == "f" or step.kind.startswith("bf")


@instruction("add")
def add(step: Step):
    """a + b."""
    return floating(step, np.add, two_sum, operator.add) if _is_floating(step) else integer_sum(step, np.add)


@instruction("sub")
def subtract(step: Step):
    """a - b."""
    if _is_floating(step):
        return floating(step, np.subtract, lambda a, b: two_sum(a, -b), operator.sub)
    return integer_sum(step, np.subtract)


@instruction("mul")
def product(step: Step):
    """a * b."""
    return floating(step, np.multiply, two_product, operator.mul) if _is_floating(step) else step.map(multiply(step))


@instruction("fma", "mad")
def multiply_add(step: Step):
    """a * b + c, rounded once; for integers the low, high or wide product plus c."""
    if _is_floating(step):
        return floating(step, fma, lambda a, b, c: sum_of_three(*two_product(a, b), c), lambda a, b, c: a * b + c)
    if step.has("cc"):
        return carried(step)
    multiplied = multiply(step)
    add_up = saturated(np.add, DTYPES[step.kind]) if step.has("sat") else np.add
    wide = f"{step.kind[0]}{2 * int(step.kind[1:])}" if step.has("wide") else step.kind
    return step.map(lambda a, b, c: add_up(multiplied(a, b), c), step.kind, step.kind, wide)


@instruction("div")
def division(step: Step):
    """a / b; of integers rounded to zero. div.approx and div.full are correctly rounded here."""
    return floating(step, np.divide, quotient, operator.truediv) if _is_floating(step) else step.map(divide)


@instruction("neg")
def negated(step: Step):
    """-a."""
    return floating(step, np.negative) if _is_floating(step) else step.map(np.negative)


@instruction("abs")
def absolute(step: Step):
    """|a|."""
    return floating(step, np.abs) if _is_floating(step) else step.map(np.abs)


@instruction("min", "max")
def extreme(step: Step):
    """The smaller or larger; of floating point numbers the one that is not NaN, unless .NaN asks for it; -0 < 0."""
    largest = step.opcode == "max"
    plain = np.maximum if largest else np.minimum
    if step.has("xorsign"):
        raise step.refuse(".xorsign")
    if not _is_floating(step):
        function = (lambda a, b: np.maximum(plain(a, b), a.dtype.type(0))) if step.has("relu") else plain
        return step.map_parts(function) if step.kind in PARTS else step.map(function)
    chosen = plain if step.has("NaN") else np.fmax if largest else np.fmin

    def pick(a, b, *c):
        result = chosen(a, b)
        tie = (a == b) & (np.signbit(a) != np.signbit(b))
        result = np.where(tie, np.copysign(result, 1 if largest else -1).astype(result.dtype), result)
        return pick(result, *c) if c else result
    return floating(step, pick)


@instruction("copysign")
def sign_copied(step: Step):
    """The second operand's size with the first one's sign."""
    return step.map(lambda sign, size: np.copysign(size, sign))


@instruction("testp")
def tested(step: Step):
    """Whether a number is finite, infinite, NaN, a number, normal or subnormal."""
    def subnormal(a):
        return (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny)
    tests = {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan, "number": lambda a: ~np.isnan(a),
             "subnormal": subnormal, "normal": lambda a: np.isfinite(a) & (a != 0) & ~subnormal(a)}
    return step.map(tests[step.modifiers[0]])


def approximate(step: Step, function):
    """A function of one number, computed in float64 and rounded once."""
    ftz, dtype = step.has("ftz"), DTYPES[step.kind]
    upper_half = step.kind == "f64" and step.has("approx")

    def compute(a):
        if ftz:
            a = flush(a)
        result = function(a.astype(np.float64)).astype(dtype)
        if upper_half:      # the hardware gives the upper word only
            result = (result.view(np.uint64) & np.uint64(0xffffffff00000000)).view(np.float64)
        return flush(result) if ftz else result
    if step.kind == "f16x2":
        return step.map_parts(lambda a: function(a.astype(np.float64)))
    if dtype.kind != "f":
        raise step.refuse(f"arithmetic on .{step.kind}")
    return step.map(compute)


@instruction("rcp")
def reciprocal(step: Step):
    """1 / a."""
    if not step.has("approx"):
        return floating(step, lambda a: a.dtype.type(1) / a, lambda a: quotient(np.ones_like(a), a), lambda a: 1 / a)
    return approximate(step, lambda a: 1 / a)


@instruction("sqrt")
def square_root(step: Step):
    """The square root."""
    return approximate(step, np.sqrt) if step.has("approx") else floating(step, np.sqrt, root, lambda a: 0)


@instruction("rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def transcendental(step: Step):
    """Functions that the hardware approximates."""
    return approximate(step, {"rsqrt": lambda a: 1 / np.sqrt(a), "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos,
                              "tanh": np.tanh}[step.opcode])
