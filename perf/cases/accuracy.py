"""Question: how far are results from the true ones?

`ulp` is the largest error over a sample, in units in the last place of the result, against long double where that has
more than 53 bits and mpmath (fewer points) where it has not. A long sum of equal numbers shows how errors of addition
accumulate. The interval of each function is stated below; sin has a case of its own for large arguments, where
reducing by pi is hard.
"""
import numpy as np

from perf.harness import Case, Group

POINTS = 200_000
TENTHS = 10**7


def magnitudes(rng, low, high, n):
    """n positive numbers whose decimal logarithms are uniform in low to high."""
    return 10.0 ** rng.uniform(low, high, n)


def arguments(name: str, dtype: np.dtype, n: int) -> np.ndarray:
    """About n arguments for a function: its ordinary interval, tiny ones, and where it is hard to get right."""
    rng = np.random.default_rng(0)
    half, tiny = n // 2, -30
    top = 38 if dtype == np.float32 else 300
    signs = rng.choice((-1, 1), n - half)
    if name == "exp":  # up to the edge of overflow and of the normal numbers
        edge = (-87, 88.7) if dtype == np.float32 else (-708, 709.7)
        parts = rng.uniform(*edge, half), signs * magnitudes(rng, tiny, 0, n - half)
    elif name == "log":  # all magnitudes, and close to 1, where the result is small
        parts = magnitudes(rng, -top + 1, top, half), rng.uniform(0.5, 2, n - half)
    elif name == "tanh":
        parts = rng.uniform(-10, 10, half), signs * magnitudes(rng, tiny, 0, n - half)
    elif name == "sin":  # and as close to multiples of pi as the dtype comes
        parts = rng.uniform(-100, 100, half), signs * magnitudes(rng, tiny, 3, n - half), np.pi * np.arange(1, 2001)
    else:
        parts = (signs * magnitudes(rng, 3, top - 1, n - half),)
    return np.concatenate(parts).astype(dtype)


def reference(name: str, x: np.ndarray) -> np.ndarray | None:
    """The function in more than 53 bits, as long double, or as (nearest double, remainder) pairs; None without a way.

    Where long double is no wider than double, mpmath computes with 40 digits on top of those that large arguments take.
    """
    if np.finfo(np.longdouble).nmant > 60:
        return getattr(np, name)(x.astype(np.longdouble))
    try:
        import mpmath
    except ImportError:
        return None
    with mpmath.workdps(360 if name == "sin" else 40):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(value))) for value in x]
        nearest = [float(value) for value in exact]
        rest = [float(value - mpmath.mpf(near)) for value, near in zip(exact, nearest, strict=True)]
    return np.stack([nearest, rest])


def worst_ulp(name: str, x: np.ndarray, got: np.ndarray) -> float | None:
    """The largest |got - true| in spacings of the dtype at the true value; infinite where only one is finite."""
    true = reference(name, x)
    if true is None:
        return None
    pair = true if true.ndim == 2 else np.stack([true, np.zeros_like(true)])
    with np.errstate(all="ignore"):
        size = np.spacing(np.abs(pair[0].astype(got.dtype)))
        error = np.abs((got.astype(pair.dtype) - pair[0]) - pair[1]) / size
    same = got == pair[0].astype(got.dtype)  # also both infinite, where the difference is NaN
    error = np.where(same & ~np.isfinite(got), 0, error)
    return float(np.where(np.isnan(error), np.inf, error).max())


def ulp(name, dtype, large=False):
    """A case: worst error of a function at a dtype."""

    def build(xp):
        wide = np.finfo(np.longdouble).nmant > 60
        x = arguments("large" if large else name, np.dtype(dtype), POINTS if wide else 4000)
        got = xp.to_numpy(getattr(xp, name)(xp.array(x)))
        if got.dtype != x.dtype:
            raise TypeError(f"{name} of {x.dtype} gave {got.dtype}")
        worst = worst_ulp(name, x, got)
        return None if worst is None else lambda: worst

    return build


def long_sum(xp):
    """Relative error of the sum of 10^7 float32 values 0.1; the true sum is exact in float64."""
    a = xp.array(np.full(TENTHS, 0.1, np.float32))
    true = TENTHS * float(np.float32(0.1))
    return lambda: abs(float(a.sum()) - true) / true


GROUPS = (
    Group("accuracy", "how far are results from the true ones (largest error in ulp; relative error of the sum)?",
          tuple(Case(f"{name} {dtype} ulp", ulp(name, dtype), 1.5, against=None, kind="value")
                for dtype in ("float32", "float64") for name in ("exp", "log", "sin", "tanh"))
          + tuple(Case(f"sin {dtype} ulp, large", ulp("sin", dtype, large=True), 1.5, against=None, kind="value")
                  for dtype in ("float32", "float64"))
          + (Case("sum of 10^7 x 0.1", long_sum, 1e-6, against=None, kind="value"),)),
)
