"""Pools over windows of images ([n], channels, spatial...) with two or three spatial dimensions: max, mean, their transposes.

`size` is the spatial size of the result, `kernel` None for the even windows of an adaptive pool. Elements picked by index
(`plane_gather`), added back (`plane_scatter`) and put into zeros (`max_unpool`) are each other's derivatives. What users may
write is settled in `engine.nn.functional.pooling`; the kernels are in `kernels.cpu.pooling`.
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, FLOATS, INTS, structural
from ..cpu import copies

# --- pieces -----------------------------------------------------------------------------------------------------------

def _solid(x: np.ndarray, dims: int) -> np.ndarray:
    """Images with a batch dimension and three spatial ones."""
    x = x if x.ndim > dims + 1 else x[None]
    return x if dims == 3 else x[:, :, None]


def _triple(values: tuple | None, fill: int) -> tuple | None:
    return None if values is None else (fill,) * (3 - len(values)) + tuple(values)


def _dense(x: np.ndarray) -> np.ndarray:
    return x if x.flags.c_contiguous and x.flags.aligned else copies.copy(x)


def _draw(rng, dtype: str, shape: tuple) -> np.ndarray:
    """Distinct numbers, further apart than the steps of finite differences."""
    return (rng.permutation(int(np.prod(shape))).reshape(shape) * (0.1 if dtype.startswith("float") else 1)).astype(dtype)


_CASES = {      # by spatial dimensions: input, then size, kernel, stride, padding, dilation of the result
    2: [((4, 5), (2, 3), (2, 3), (2, 1), (0, 0), (1, 1)), ((4, 5), (3, 3), (2, 2), (2, 2), (1, 1), (1, 1)),
        ((5, 6), (2, 3), None, (1, 1), (0, 0), (1, 1))],
    3: [((3, 4, 5), (2, 2, 3), (2, 3, 2), (1, 1, 2), (0, 0, 1), (1, 1, 1)),
        ((3, 4, 2), (2, 3, 1), None, (1, 1, 1), (0, 0, 0), (1, 1, 1))],
}


def _intervals(n: int, out: int, kernel: int | None, stride: int, padding: int) -> list[tuple[int, int, int]]:
    """(begin, end, how many with padding) of the windows along one dimension, for tests."""
    if kernel is None:
        return [(k * n // out, -(-(k + 1) * n // out), -(-(k + 1) * n // out) - k * n // out) for k in range(out)]
    starts = [k * stride - padding for k in range(out)]
    return [(max(s, 0), min(s + kernel, n), min(s + kernel, n + padding) - s) for s in starts]


def _by_windows(x: np.ndarray, size: tuple, kernel: tuple | None, stride: tuple, padding: tuple, of) -> np.ndarray:
    """`of`(elements of a window (n, c, ...), how many with padding) for each window, for tests."""
    lines = [_intervals(x.shape[2 + d], size[d], None if kernel is None else kernel[d], stride[d], padding[d])
             for d in range(len(size))]
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for place in np.ndindex(*size):
        parts = [lines[d][k] for d, k in enumerate(place)]
        window = x[(..., *(slice(a, b) for a, b, _ in parts))]
        out[(..., *place)] = of(window.reshape(*x.shape[:2], -1), int(np.prod([c for _, _, c in parts])))
    return out


def _max_reference(x, size, kernel, stride, padding, dilation):
    values = _by_windows(x, size, kernel, stride, padding, lambda w, count: w.max(-1))
    plane = np.broadcast_to(np.arange(int(np.prod(x.shape[2:]))).reshape(x.shape[2:]), x.shape)
    order = x.reshape(*x.shape[:2], -1).argsort(-1)         # elements are distinct: the place of a value is its index
    ranked = np.take_along_axis(x.reshape(*x.shape[:2], -1), order, -1)
    found = np.array([[order[i, j][np.searchsorted(ranked[i, j], values[i, j])] for j in range(x.shape[1])]
                      for i in range(x.shape[0])])
    return values, found.astype(plane.dtype)


def _mean_reference(x, size, kernel, stride, padding, count_pad, divisor):
    def of(window, count):
        total, by = window.sum(-1), divisor or (count if count_pad else window.shape[-1])
        return total / by if x.dtype.kind == "f" else np.trunc(total / by)
    return _by_windows(x, size, kernel, stride, padding, of)


# --- max --------------------------------------------------------------------------------------------------------------

def _max_adjoint(gs, out, x_shape, size, kernel, stride, padding, dilation):
    return BOOK["plane_scatter"](gs[0], out[1], size=tuple(x_shape[-len(size):]), windows=(kernel, stride, padding, dilation))


def _max_samples(dims: int):
    def samples(rng, dtype):
        for shape, size, kernel, stride, padding, dilation in _CASES[dims]:
            yield [_draw(rng, dtype, (2, 2, *shape))], {"size": size, "kernel": kernel, "stride": stride, "padding": padding,
                                                       "dilation": dilation}
    return samples


def _largest(x, size, kernel, stride, padding, dilation):
    from ..cpu import pooling
    values, indices = pooling.largest(_solid(x, len(size)), _triple(size, 1), _triple(kernel, 1), _triple(stride, 1),
                                      _triple(padding, 0), _triple(dilation, 1))
    shape = (*x.shape[:-len(size)], *size)
    return values.reshape(shape), indices.reshape(shape)


for _name, _node, _dims, _dtypes in (
        ("max_pool2d", "MaxPool2DWithIndicesBackward0", 2, INTS + FLOATS),
        ("max_pool3d", "MaxPool3DWithIndicesBackward0", 3, INTS + FLOATS),
        ("adaptive_max_pool2d", "AdaptiveMaxPool2DBackward0", 2, FLOATS),
        ("adaptive_max_pool3d", "AdaptiveMaxPool3DBackward0", 3, FLOATS)):
    structural(["x"], name=_name, doc="The largest element of each window, and its index in the plane.", node=_node, dtypes=_dtypes,
               adjoint=_max_adjoint, nondiff=(1,), function=False, method=False, like=_max_reference,
               samples=_max_samples(_dims))(_largest)


# --- mean -------------------------------------------------------------------------------------------------------------

def _mean_adjoint(g, x_shape, size, kernel, stride, padding, count_pad, divisor):
    return BOOK["mean_pool_back"](g, size=tuple(x_shape[-len(size):]), kernel=kernel, stride=stride, padding=padding,
                                  count_pad=count_pad, divisor=divisor)


def _mean_samples(dims: int, back: bool = False):
    def samples(rng, dtype):
        for k, (shape, size, kernel, stride, padding, _) in enumerate(_CASES[dims]):
            yield [_draw(rng, dtype, (2, 2, *(size if back else shape)))], {
                "size": shape if back else size, "kernel": kernel, "stride": stride, "padding": padding, "count_pad": k == 1,
                "divisor": 0 if kernel is None or k else 5}
    return samples


def _means(x, size, kernel, stride, padding, count_pad, divisor):
    from ..cpu import pooling
    found = pooling.means(_solid(x, len(size)), _triple(size, 1), _triple(kernel, 1), _triple(stride, 1), _triple(padding, 0),
                          count_pad, divisor)
    return found.reshape((*x.shape[:-len(size)], *size))


for _name, _node, _dims in (("avg_pool2d", "AvgPool2DBackward0", 2), ("avg_pool3d", "AvgPool3DBackward0", 3),
                            ("adaptive_avg_pool2d", "AdaptiveAvgPool2DBackward0", 2),
                            ("adaptive_avg_pool3d", "AdaptiveAvgPool3DBackward0", 3)):
    structural(["x"], name=_name, doc="The mean of each window.", node=_node, dtypes=(*FLOATS, "int64"), linear=True,
               adjoint=_mean_adjoint, function=False, method=False, like=_mean_reference, samples=_mean_samples(_dims))(_means)


def _mean_back_adjoint(g, x_shape, size, kernel, stride, padding, count_pad, divisor):
    name = f"{'adaptive_' if kernel is None else ''}avg_pool{len(size)}d"
    return BOOK[name](g, size=tuple(x_shape[-len(size):]), kernel=kernel, stride=stride, padding=padding, count_pad=count_pad,
                      divisor=divisor)


@structural(["x"], dtypes=FLOATS, linear=True, adjoint=_mean_back_adjoint, function=False, method=False,
            samples=lambda rng, dtype: _mean_samples(2, True)(rng, "float64"))
def mean_pool_back(x, size, kernel, stride, padding, count_pad, divisor):
    """The transpose of a mean over windows, for images of a spatial size."""
    from ..cpu import pooling
    found = pooling.means_back(_solid(x, len(size)), _triple(size, 1), _triple(kernel, 1), _triple(stride, 1), _triple(padding, 0),
                               count_pad, divisor)
    return found.reshape((*x.shape[:-len(size)], *size))


# --- by index ---------------------------------------------------------------------------------------------------------

def _index_samples(dims: tuple, gather: bool):
    def samples(rng, dtype):
        space = int(np.prod(dims))
        few = (2,) * len(dims)
        indices = np.stack([rng.permutation(space)[:2 ** len(dims)] for _ in range(4)]).reshape(2, 2, *few)
        x = _draw(rng, dtype, (2, 2, *(dims if gather else few)))
        yield [x, indices], {"dims": 2} if gather else {"size": dims}
    return samples


def _gather_reference(x, indices, dims):
    return np.take_along_axis(x.reshape(*x.shape[:2], -1), indices.reshape(*indices.shape[:2], -1), -1).reshape(indices.shape)


def _scatter_reference(x, indices, size):
    out = np.zeros((*x.shape[:2], int(np.prod(size))), x.dtype)
    np.put_along_axis(out, indices.reshape(*x.shape[:2], -1), x.reshape(*x.shape[:2], -1), -1)      # distinct indices
    return out.reshape(*x.shape[:2], *size)


def _by_index(name: str, x, indices, dims: int, size: tuple):
    """A kernel on planes of `dims` dimensions; `size` is that of the results' planes."""
    from ..cpu import pooling
    lead = x.shape[:-dims]
    planes = (math.prod(lead), -1) if x.size and indices.size else (math.prod(lead), 0)
    found = pooling.by_index(name, _dense(x).reshape(planes), _dense(indices).reshape(planes), math.prod(size))
    return found.reshape(lead + size)


@structural(["x", "indices"], dtypes=INTS + FLOATS, function=False, method=False, like=_scatter_reference,
            samples=_index_samples((3, 4), False),
            adjoint=lambda g, indices, size: (BOOK["plane_gather"](g, indices, dims=len(size)), None))
def plane_scatter(x, indices, size, windows=None):
    """Planes of zeros of a spatial size with elements added at indices.

    `windows`: kernel, stride, padding and dilation of the pool that gave the indices, for kernels that look for them there.
    """
    return _by_index("scatter", x, indices, len(size), size)


@structural(["x", "indices"], dtypes=INTS + FLOATS, function=False, method=False, like=_gather_reference,
            samples=_index_samples((3, 4), True),
            adjoint=lambda g, indices, x_shape, dims: (BOOK["plane_scatter"](g, indices, size=tuple(x_shape[-dims:])), None))
def plane_gather(x, indices, dims):
    """The elements of planes of some dimensions at indices."""
    return _by_index("gather", x, indices, dims, indices.shape[-dims:])


for _dims in (2, 3):
    structural(["x", "indices"], name=f"max_unpool{_dims}d", node=f"MaxUnpool{_dims}DBackward0", dtypes=INTS + FLOATS,
               function=False, method=False, like=_scatter_reference,
               samples=_index_samples((3, 4) if _dims == 2 else (2, 2, 3), False),
               doc="Planes of zeros of a spatial size with elements put at indices.",
               adjoint=lambda g, indices, size: (BOOK["plane_gather"](g, indices, dims=len(size)), None))(
                   lambda x, indices, size: _by_index("place", x, indices, len(size), size))
