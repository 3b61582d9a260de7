"""Question: how fast is a matrix reduced, to one number, along its columns, along its rows?

1000 x 1000 float32. Along a dimension the engine's and PyTorch's max also give the positions, as their users expect;
NumPy's and JAX's give the values only.
"""
import numpy as np

from perf.harness import Case, Group

NAMES = ("sum", "mean", "max", "argmax", "var")
DIMS = {"all": None, "first": 0, "last": 1}


def reduction(name, dim):
    """A case of one reduction over one dimension, or over all when `dim` is None."""

    def build(xp):
        f = getattr(xp, name)
        a = xp.array(np.random.default_rng(0).random((1000, 1000), dtype=np.float32))
        where = {} if dim is None else {xp.dim_word: dim}
        return lambda: f(a, **where)

    return build


GROUPS = (
    Group("reduce", "what do reductions of 1000 x 1000 float32 cost over all, the first and the last dimension?",
          tuple(Case(f"{name} {word}", reduction(name, dim), 1.2) for name in NAMES for word, dim in DIMS.items())),
)
