"""Rounding to integers, and the conversion of floats to narrow integers. Derivatives are zero, of `frac` one."""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import COMPLEX, FLOATS, REALS, TO_INT64, pointwise

EDGES = (0.0, -0.0, 0.5, -0.5, 1.5, 2.5, np.inf, -np.inf, np.nan)


def _same(x):
    return x


def _refused(name: str) -> dict[str, str]:
    return {"bool": f'"{name}_vml_cpu" not implemented for \'Bool\''} | dict.fromkeys(
        COMPLEX, f"{name} is not supported for complex inputs")


def _flat(name: str, like) -> dict:
    return {"partials": lambda x, out: (0,), "dtypes": REALS, "bodies": {"int": _same}, "inplace": True, "special": EDGES,
            "refusals": _refused(name), "like": lambda x: like(x).astype(x.dtype), "domain": {"x": (0.1, 0.4)}}


@pointwise(**_flat("floor", np.floor))
def floor(x):
    """The largest integer that is not above each element."""
    return libm.floor(x)


@pointwise(**_flat("ceil", np.ceil))
def ceil(x):
    """The smallest integer that is not below each element."""
    return libm.ceil(x)


@pointwise(**_flat("trunc", np.trunc), aliases=("fix",))
def trunc(x):
    """Each element without its fraction."""
    return libm.trunc(x)


@pointwise(**_flat("round", np.rint), function=False, method=False)
def round(x):
    """The nearest integer, halves to the even one."""
    return libm.rint(x)


def _near_tenths(rng, dtype):
    """To tenths and to tens, from values away from halves, where the result jumps."""
    x = rng.integers(-30, 31, 7) / 10 + rng.uniform(-0.03, 0.03, 7)
    return x.astype(dtype), np.resize(np.array([10, -10], dtype), 7)


@pointwise(partials=lambda x, scale, out: (0, None), dtypes=FLOATS, function=False, method=False, node="RoundBackward1",
           like=lambda x, scale: np.where(scale > 0, np.rint(x * scale) / scale, np.rint(x / -scale) * -scale),
           samples=_near_tenths)
def round_to(x, scale):
    """x rounded to multiples of 1 / scale, or of -scale where scale is negative."""
    return libm.rint(x * scale) / scale if scale > 0 else libm.rint(x / -scale) * -scale


@pointwise(partials=lambda x, out: (1,), dtypes=FLOATS, inplace=True, like=lambda x: x - np.trunc(x), domain={"x": (0.1, 0.8)},
           special=(0.0, -1.5, 2.5, np.nan),
           refusals={"int64": '"frac_cpu" not implemented for \'Long\'',
                     "complex64": '"frac_cpu" not implemented for \'ComplexFloat\''})
def frac(x):
    """What `trunc` takes away, with the sign of x."""
    return x - libm.trunc(x)



@pointwise(dtypes=FLOATS, result=TO_INT64, function=False, method=False, like=lambda x: np.trunc(x).astype("int64"))
def narrow_to_int(x):
    """A float as int64, cut towards zero: on the way to 8 and 16 bits, so that what does not fit wraps around."""
    return int(x)
