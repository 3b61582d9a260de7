"""Launches that can wait: kernels whose results are known but for their values.

`elementwise`, `shaped` and `folded` make the `put_off` of a recorder (`recorders`): `put_off(later, arrays, out, options)` makes
memory for the results, queues the launch (`deferral`) and gives the results; None where it has to run at once.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels.book import Fold, Structural
from kernels.cpu import sheets

from ..large import LARGE


def _common(*arrays: np.ndarray) -> tuple[int, ...] | None:
    return arrays[0].shape if all(a.flags.c_contiguous and a.shape == arrays[0].shape for a in arrays) else None


def _product(x: np.ndarray, y: np.ndarray) -> tuple[int, ...] | None:
    return (x.shape[0], y.shape[1]) if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[0] else None


def _affine(shift: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[int, ...] | None:
    shape = _product(x, y)
    return shape if shape and shift.shape in ((), shape[1:], shape) else None


# The shape of the one row-major result of other operators, None where it is not as simple as that.
SHAPES: dict[str, Callable] = {
    "addmm": _affine, "log_softmax": _common, "log_softmax_backward": _common, "matmul": _product, "softmax": _common,
    "softmax_backward": _common,
}


class Late:
    """A pointwise kernel of the engine's own that is loaded, or compiled, when it first runs."""

    def __init__(self, load: Callable, *key):
        self.load, self.key = load, key

    def __call__(self, *arrays, **options):
        return self.load(*self.key)(*arrays, **options)

    def into(self, reads: Sequence[np.ndarray], writes: Sequence[np.ndarray]) -> None:
        """Run it on given memory."""
        ufunc = self.load(*self.key)
        if len(writes) == 1 and writes[0].size >= LARGE and ufunc.__class__ is np.ufunc:
            sheets.into(ufunc, reads, writes[0])
        else:
            ufunc(*reads, *writes)


def elementwise(kernel: Callable, count: int, dtypes: list[np.dtype]) -> Callable | None:
    """`put_off` of a pointwise kernel of `count` operands with results of these dtypes."""
    if not isinstance(kernel, Late):
        return None

    def put_off(later, arrays, out, options):
        reads, writes = arrays[:count], arrays[count:]
        if options or not all(isinstance(a, np.ndarray) for a in arrays):
            return None
        if not writes and (out is None or out is Ellipsis):
            writes = _laid_out(reads, dtypes)
        elif out is None and len(writes) == len(dtypes):
            shape = np.broadcast_shapes(*[a.shape for a in reads], writes[0].shape)         # ValueError as from the kernel
            if any(w.shape != shape for w in writes):
                return None
        else:
            return None
        later.put(kernel.into, reads, writes)
        return writes[0] if len(writes) == 1 else tuple(writes)
    return put_off


def _laid_out(reads: Sequence[np.ndarray], dtypes: list[np.dtype]) -> tuple[np.ndarray, ...]:
    """Memory for the results of a ufunc, in the layout that NumPy gives them. ValueError where shapes do not fit."""
    flags = [["readonly"]] * len(reads) + [["writeonly", "allocate"]] * len(dtypes)
    walk = np.nditer((*reads, *[None] * len(dtypes)), ["zerosize_ok"], flags, [a.dtype for a in reads] + dtypes)
    return walk.operands[len(reads):]


def shaped(op: Structural) -> Callable | None:
    """`put_off` of an operator that gives one row-major array whose shape and dtype follow from its operands."""
    rule = SHAPES.get(op.name)
    if rule is None:
        return None

    def put_off(later, arrays, out, options):
        shape = rule(*arrays)
        if out is not None or shape is None or not all(a.size and a.dtype == arrays[0].dtype for a in arrays):
            return None
        result = np.empty(shape, arrays[0].dtype)

        def compute(reads, writes):
            writes[0][...] = op.forward(*reads, **options)
        later.put(compute, arrays, (result,))
        return result
    return put_off


def folded(op: Fold, run: Callable) -> Callable:
    """`put_off` of a fold: run(op, x, dims, keepdim, extra) computes it. Its results are as good as known for contiguous arrays."""

    def put_off(later, arrays, out, options):
        x, keepdim = arrays[0], options.get("keepdim", False)
        dims = options.get("dims")
        dims = tuple(range(x.ndim)) if dims is None else tuple(dims)
        shape = tuple([1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims])
        if out is not None or not x.size or not (x.flags.c_contiguous or len(dims) == x.ndim):
            return None
        types = op.result(x.dtype.name)

        def compute(reads, writes):
            found = run(op, reads[0], options.get("dims"), keepdim, tuple(reads[1:]))
            for w, r in zip(writes, found if isinstance(found, tuple) else (found,), strict=True):
                w[...] = r
        results = tuple([np.empty(shape, t) for t in (types if isinstance(types, tuple) else (types,))])
        later.put(compute, arrays, results)
        return results if isinstance(types, tuple) else results[0]
    return put_off
