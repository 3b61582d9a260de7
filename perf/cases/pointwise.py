"""Question: how fast do large arrays pass through one pointwise operator, each result a new array?

Arithmetic at 10^6 and 10^7 elements is bound by memory and by how new arrays are made; exp and its like at 10^6 by
arithmetic. Strided and broadcast operands show what a layout costs. Reductions are in `reduce.py`, accuracy in
`accuracy.py`.
"""
import numpy as np

from perf.harness import Case, Group

ARITHMETIC = {
    "add": lambda xp, a, b, mask: lambda: a + b,
    "mul": lambda xp, a, b, mask: lambda: a * b,
    "sqrt": lambda xp, a, b, mask: lambda: xp.sqrt(a),
    "where": lambda xp, a, b, mask: lambda: xp.where(mask, a, b),
    "a > b": lambda xp, a, b, mask: lambda: a > b,
    "to int32": lambda xp, a, b, mask: lambda: xp.to_int(a),
}

# Each function with the interval its argument is drawn from.
FUNCTIONS = {"exp": (-20, 20), "log": (1e-3, 1e3), "tanh": (-5, 5), "sigmoid": (-20, 20), "sin": (-20, 20),
             "erf": (-4, 4)}


def arithmetic(make, n):
    """A case of `make(xp, a, b, mask)` on vectors of n float32, uniform in 0 to 100."""

    def build(xp):
        rng = np.random.default_rng(0)
        a, b = (100 * rng.random(n, dtype=np.float32) for _ in range(2))
        return make(xp, xp.array(a), xp.array(b), xp.array(a > 50))

    return build


def function(name, dtype):
    """A case of the named function on 10^6 elements; None where a library has none (NumPy without SciPy: erf)."""

    def build(xp):
        f = getattr(xp, name)
        if f is None:
            return None
        a = xp.array(np.random.default_rng(0).uniform(*FUNCTIONS[name], 10**6).astype(dtype))
        return lambda: f(a)

    return build


def layout(make):
    """A case of `make(a, b)` on two 1000 x 1000 float32 matrices."""

    def build(xp):
        rng = np.random.default_rng(0)
        return make(*(xp.array(rng.random((1000, 1000), dtype=np.float32)) for _ in range(2)))

    return build


def add_row(a, b):
    """a + row, the row made beforehand: its slice is not part of the question."""
    row = b[0]
    return lambda: a + row


def add_transposed(a, b):
    """a + b.T, the transposed view made beforehand."""
    turned = b.T
    return lambda: a + turned


GROUPS = (
    Group("large", "what does simple arithmetic cost on 10^6 and 10^7 float32, new results?",
          tuple(Case(f"{name} 10^{power}", arithmetic(make, 10**power), bar)
                for power, bar in ((6, 1.0), (7, 0.5)) for name, make in ARITHMETIC.items())),
    Group("functions", "what do exp and its like cost on 10^6 elements?",
          tuple(Case(f"{name} {dtype}", function(name, dtype), 1.5)
                for dtype in ("float32", "float64") for name in FUNCTIONS)),
    Group("layout", "what do strided and broadcast operands cost, 1000 x 1000 float32?",
          (Case("a + b.T", layout(add_transposed), 1.0), Case("a + row", layout(add_row), 1.0))),
)
