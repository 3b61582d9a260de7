"""Operators that move data to other places: clone, cat, stack, flip, roll, repeat, tril, scatters of slices.

Results are filled by our copy kernels (`kernels.cpu.copies`) through views of the output, so one kernel per dtype serves all of
them; only the triangles have a kernel of their own. Options are canonical, checked by `engine.functions`.
"""
from __future__ import annotations

import functools

import numpy as np

from ..book import BOOK, structural
from ..cpu import buffers, copies, pool
from .windows import _at, _diagonal, zeros

# --- copies -----------------------------------------------------------------------------------------------------------

@structural(["x"], anywhere=True, linear=True, function=False, like=np.copy, adjoint=lambda g: g)
def clone(x):
    """A copy in memory of its own, dimensions in the order that they have in memory."""
    if x.flags.c_contiguous or x.ndim < 2:
        return copies.copy(x)
    order = memory_order(x)
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return copies.copy(x.transpose(order)).transpose(inverse)


def memory_order(x: np.ndarray) -> list[int]:
    """Dimensions from the largest stride to the smallest; those that repeat elements (stride 0) stay beside their neighbours.

    The rule of PyTorch's `infer_dense_strides`: an insertion sort in which ambiguous pairs keep their order.
    """
    order = list(range(x.ndim))[::-1]
    shape, strides = x.shape, [abs(s) for s in x.strides]

    def swap(a: int, b: int) -> int:
        if strides[a] == 0 or strides[b] == 0:
            return 0
        if strides[a] != strides[b]:
            return -1 if strides[a] < strides[b] else 1
        return 1 if shape[a] > shape[b] else 0
    for i in range(1, x.ndim):
        at = i
        for before in range(i - 1, -1, -1):
            answer = swap(order[before], order[at])
            if answer > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif answer < 0:
                break
    return order[::-1]


@structural(["x"], anywhere=True, linear=True, function=False, method=False, like=np.ascontiguousarray,
            adjoint=lambda g: g, node="CloneBackward0")
def contiguous(x):
    """A row-major copy."""
    return copies.copy(x)


# --- joining ----------------------------------------------------------------------------------------------------------

def _cat_adjoint(g, xs_shape, needs, dim):
    found, start = [], 0
    for shape, needed in zip(xs_shape, needs, strict=True):
        count = shape[dim] if len(shape) > dim and shape != (0,) else 0
        if not needed:
            found.append(None)
        elif shape == (0,) and len(g.shape) > 1:
            found.append(g.new_zeros(shape))
        else:
            found.append(BOOK["slice"](g, dim=dim, start=start, stop=start + count, step=1))
        start += count
    return found


@structural(["xs"], anywhere=True, many=True, linear=True, function=False, adjoint=_cat_adjoint, like=np.concatenate)
def cat(xs, dim):
    """Arrays of one dtype one after the other along a dimension; empty one-dimensional ones may join any."""
    dtype, length, start = xs[0].dtype, 0, 0
    for x in xs:
        if x.ndim != 1:
            break
        length += x.size
    else:
        if length < copies.SMALL and not isinstance(dtype, buffers.Elsewhere):       # a few short vectors
            out, copy = np.empty(length, dtype), copies.small(dtype)
            for x in xs:
                end = start + x.size
                copy(x, out[start:end])
                start = end
            return out
    parts = [x for x in xs if x.shape != (0,)] or xs[:1]
    shape = parts[0].shape
    length = sum([x.shape[dim] for x in parts])
    out = buffers.empty((*shape[:dim], length, *shape[dim + 1:]), dtype)
    rows = out.swapaxes(0, dim) if dim else out
    for x in parts:
        if x.size:
            if dim:
                x = x.swapaxes(0, dim)
            end = start + x.shape[0]
            copies.into(rows[start:end], x)
            start = end
    return out


def _stack_adjoint(g, needs, dim):
    return [BOOK["select"](g, dim=dim, index=k) if needed else None for k, needed in enumerate(needs)]


@structural(["xs"], anywhere=True, many=True, linear=True, function=False, adjoint=_stack_adjoint, like=np.stack)
def stack(xs, dim):
    """Arrays of one shape and dtype along a new dimension."""
    shape = xs[0].shape
    out = buffers.empty((*shape[:dim], len(xs), *shape[dim:]) if dim else (len(xs), *shape), xs[0].dtype)
    size = xs[0].size
    if size:
        layers = out.transpose(dim, *range(dim), *range(dim + 1, out.ndim)) if dim else out
        if size < pool.GRAIN:
            copy = copies.small(out.dtype)
            for k, x in enumerate(xs):
                copy(x, layers[k, ...])
        else:
            for k, x in enumerate(xs):
                copies.into(layers[k, ...], x)
    return out


def _blocks(shapes):
    """(rows, columns) of each matrix in a block diagonal one."""
    row = column = 0
    for n, m in shapes:
        yield slice(row, row + n), slice(column, column + m)
        row, column = row + n, column + m


def _block_diag_adjoint(g, xs_shape, needs):
    found = []
    for (rows, columns), needed in zip(_blocks(xs_shape), needs, strict=True):
        part = BOOK["slice"](g, dim=0, start=rows.start, stop=rows.stop, step=1) if needed else None
        found.append(BOOK["slice"](part, dim=1, start=columns.start, stop=columns.stop, step=1) if needed else None)
    return found


@structural(["xs"], anywhere=True, many=True, linear=True, function=False, adjoint=_block_diag_adjoint)
def block_diag(xs):
    """Matrices along the diagonal of a larger one, zeros elsewhere."""
    out = zeros((sum(x.shape[0] for x in xs), sum(x.shape[1] for x in xs)), xs[0].dtype)
    for x, (rows, columns) in zip(xs, _blocks([x.shape for x in xs]), strict=True):
        if x.size:
            copies.into(out[rows, columns], x)
    return out


# --- the same elements elsewhere --------------------------------------------------------------------------------------

@structural(["x"], anywhere=True, linear=True, function=False, like=np.flip, adjoint=lambda g, dims: BOOK["flip"](g, dims=dims))
def flip(x, dims):
    """Order of elements reversed along dimensions; the copy's own dimensions lie in memory as the input's do."""
    return clone.forward(x[tuple(slice(None, None, -1) if d in dims else slice(None) for d in range(x.ndim))])


@structural(["x"], anywhere=True, linear=True, function=False, like=np.roll,
            adjoint=lambda g, shifts, dims: BOOK["roll"](g, shifts=tuple(-s for s in shifts), dims=dims))
def roll(x, shifts, dims):
    """Elements moved along dimensions; what leaves at the end comes in at the start. Without dimensions, all elements in a
    row.
    """
    if not dims:
        flat = x.reshape(-1) if x.flags.c_contiguous else copies.copy(x).reshape(-1)
        return roll.forward(flat, shifts, (0,)).reshape(x.shape)
    moves = [0] * x.ndim
    for s, d in zip(shifts, dims, strict=True):
        moves[d] += s
    runs = []                                       # per dimension: (where from, where to) of its one or two runs
    for n, s in zip(x.shape, moves, strict=True):
        s = s % n if n else 0
        runs.append([(slice(0, n - s), slice(s, n)), *([(slice(n - s, n), slice(0, s))] if s else [])])
    places = [((), ())]
    for choices in runs:
        places = [((*a, source), (*b, target)) for a, b in places for source, target in choices]
    out = buffers.empty(x.shape, x.dtype)
    if x.size:
        for source, target in places:
            copies.into(out[(*target, ...)], x[(*source, ...)])
    return out


@structural(["x"], anywhere=True, linear=True, function=False, like=np.rot90, node="Rot90Backward0",
            adjoint=lambda g, k, dims: BOOK["rot90"](g, k=-k, dims=dims))
def rot90(x, k, dims):
    """A plane of two dimensions turned by k quarter turns, from the first towards the second."""
    a, b = dims
    backwards = [slice(None)] * x.ndim
    turns = k % 4
    if turns == 2:
        backwards[a] = backwards[b] = slice(None, None, -1)
    elif turns:
        backwards[b if turns == 1 else a] = slice(None, None, -1)
    turned = x[tuple(backwards)]
    return clone.forward(turned.swapaxes(a, b) if turns % 2 else turned)


def _tiles(x, repeats):
    """(shape of the result, view of the result by tiles, the elements against it): each dimension as (repeat, size)."""
    sizes = (1,) * (len(repeats) - x.ndim) + x.shape
    pairs = tuple(m for r, n in zip(repeats, sizes, strict=True) for m in (r, n))
    return tuple(r * n for r, n in zip(repeats, sizes, strict=True)), pairs, sizes


def _repeat_adjoint(g, x_shape, repeats):
    sizes = (1,) * (len(repeats) - len(x_shape)) + tuple(x_shape)
    if not all(repeats) or not all(x_shape):
        return g.new_zeros(x_shape)
    tiles = BOOK["reshape"](g, shape=tuple(m for r, n in zip(repeats, sizes, strict=True) for m in (r, n)))
    summed = BOOK["sum"](tiles, dims=tuple(range(0, 2 * len(repeats), 2)), keepdim=False)
    return BOOK["reshape"](summed, shape=x_shape)


@structural(["x"], anywhere=True, linear=True, function=False, like=np.tile, adjoint=_repeat_adjoint)
def repeat(x, repeats):
    """The array side by side with itself, `repeats` times along each dimension."""
    shape, pairs, sizes = _tiles(x, repeats)
    out = buffers.empty(shape, x.dtype)
    if out.size:
        alone = x.reshape(tuple(m for n in sizes for m in (1, n)))
        copies.into(out.reshape(pairs), np.broadcast_to(alone, pairs))
    return out


@structural(["x"], anywhere=True, linear=True, function=False,
            adjoint=lambda g, offset, dim1, dim2: BOOK["diagonal"](g, offset=offset, dim0=dim1, dim1=dim2))
def diag_embed(x, offset, dim1, dim2):
    """The last dimension on a diagonal of two new ones, zeros elsewhere."""
    n = x.shape[-1] + abs(offset)
    shape = list(x.shape[:-1])
    for d in sorted((dim1, dim2)):
        shape.insert(d, n)
    out = zeros(tuple(shape), x.dtype)
    if x.size:
        copies.into(_diagonal(out, offset, dim1, dim2), x)
    return out


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="DiagonalBackward0_copy",
            adjoint=lambda g, x_shape, offset, dim0, dim1: BOOK["diagonal_backward"](
                g, shape=x_shape, offset=offset, dim0=dim0, dim1=dim1))
def diagonal_copy(x, offset, dim0, dim1):
    """A diagonal in memory of its own."""
    return copies.copy(_diagonal(x, offset, dim0, dim1))


# --- a copy with one part replaced ------------------------------------------------------------------------------------

def _replaced(x, part, place):
    out = clone.forward(x)
    if part.size:
        copies.into(place(out), part)
    return out


def _hole(g, needs, shape, take, **options):
    """Gradients of (whole, part): the whole's is zero in the part."""
    part = BOOK[take](g, **options) if needs[1] else None
    nothing = g.new_zeros(shape) if needs[0] else None
    return (BOOK[take + "_scatter"](g, nothing, **options) if needs[0] else None), part


@structural(["x", "part"], anywhere=True, linear=True, function=False, adjoint=lambda g, needs, part_shape, dim, index: _hole(
    g, needs, part_shape, "select", dim=dim, index=index))
def select_scatter(x, part, dim, index):
    """A copy with one index of a dimension replaced."""
    return _replaced(x, part, lambda out: out[_at(dim, index)])


@structural(["x", "part"], anywhere=True, linear=True, function=False,
            adjoint=lambda g, needs, part_shape, dim, start, stop, step: _hole(
    g, needs, part_shape, "slice", dim=dim, start=start, stop=stop, step=step))
def slice_scatter(x, part, dim, start, stop, step):
    """A copy with a slice of a dimension replaced."""
    return _replaced(x, part, lambda out: out[_at(dim, slice(start, stop, step))])


@structural(["x", "part"], anywhere=True, linear=True, function=False,
            adjoint=lambda g, needs, part_shape, offset, dim0, dim1: _hole(
    g, needs, part_shape, "diagonal", offset=offset, dim0=dim0, dim1=dim1))
def diagonal_scatter(x, part, offset, dim0, dim1):
    """A copy with a diagonal replaced."""
    return _replaced(x, part, lambda out: _diagonal(out, offset, dim0, dim1))


# --- triangles --------------------------------------------------------------------------------------------------------

_WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}


@functools.cache
def band_ufunc(word: str) -> np.ufunc:
    """Kernel `(m),(),()->(m)`: a row's elements from column `low` to before `high`, zero elsewhere; by size of element."""
    from ..cpu.maps import ITEMSIZE, loaded, stored
    from ..cpu.native import Program, make_ufunc
    size = ITEMSIZE[word]
    code = f"""def kernel(args, dimensions, steps, data):
    n, m = dimensions[0], dimensions[1]
    for row in range(n):
        low = min(max(load_int64(args[1], row * steps[1]), 0), m)
        high = min(load_int64(args[2], row * steps[2]), m)
        x, q = row * steps[0], row * steps[3]
        for j in range(m if low >= high else low):
            {stored(word, 'args[3]', 'q + j * steps[5]', '0')}
        if steps[4] == {size} and steps[5] == {size}:
            for j in range(low, high):
                {stored(word, 'args[3]', f'q + j * {size}', loaded(word, 'args[0]', f'x + j * {size}'))}
        else:
            for j in range(low, high):
                {stored(word, 'args[3]', 'q + j * steps[5]', loaded(word, 'args[0]', 'x + j * steps[4]'))}
        for j in range(max(low, high), m):
            {stored(word, 'args[3]', 'q + j * steps[5]', '0')}
"""
    return make_ufunc(Program(f"band_{word}", code, inputs=(word, "int64", "int64"), outputs=(word,),
                              signature="(m),(),()->(m)"))


def _band(x, low, high):
    out = buffers.empty(x.shape, x.dtype)
    if not x.size:
        return out
    if x.size >= pool.GRAIN:
        pool.ensure()
    word = _WORDS[x.itemsize]
    bits = x if x.itemsize == 16 else x.view(word)
    band_ufunc(word)(bits, low, high, out if x.itemsize == 16 else out.view(word))
    return out


@structural(["x"], linear=True, function=False, like=np.tril, adjoint=lambda g, diagonal: BOOK["tril"](g, diagonal=diagonal))
def tril(x, diagonal):
    """Elements on and below a diagonal of the last two dimensions, zeros above."""
    n, m = x.shape[-2:]
    start = min(max(diagonal, -n), m)
    return _band(x, np.int64(0), np.arange(start + 1, start + 1 + n))


@structural(["x"], linear=True, function=False, like=np.triu, adjoint=lambda g, diagonal: BOOK["triu"](g, diagonal=diagonal))
def triu(x, diagonal):
    """Elements on and above a diagonal of the last two dimensions, zeros below."""
    n, m = x.shape[-2:]
    start = min(max(diagonal, -n), m)
    return _band(x, np.arange(start, start + n), np.int64(m))


# --- counts to positions ----------------------------------------------------------------------------------------------

@functools.cache
def counting_ufuncs() -> tuple[np.ufunc, np.ufunc]:
    """Kernels of repeat_interleave: "(n)->(two)" sums counts and finds the least, "(n)->(m)" writes position k counts[k]
    times.
    """
    from ..cpu.native import Program, make_ufunc
    sums = """def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        total, least = 0, 0
        for k in range(dimensions[1]):
            count = load_int64(args[0], outer * steps[0] + k * steps[2])
            total += count
            least = min(least, count)
        store_int64(args[1], outer * steps[1], total)
        store_int64(args[1], outer * steps[1] + steps[3], least)
"""
    writes = """def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        at = 0
        for k in range(dimensions[1]):
            for j in range(min(load_int64(args[0], outer * steps[0] + k * steps[2]), dimensions[2] - at)):
                store_int64(args[1], outer * steps[1] + at * steps[3], k)
                at += 1
"""
    one = {"inputs": ("int64",), "outputs": ("int64",)}
    return (make_ufunc(Program("counts_sum", sums, signature="(n)->(t)", **one)),
            make_ufunc(Program("counts_positions", writes, signature="(n)->(m)", **one)))


@structural(["counts"], function=False, method=False)
def positions_of_counts(counts, output_size):
    """Index k repeated counts[k] times, in one int64 vector. Errors: RuntimeError for a negative count or a wrong
    `output_size`.
    """
    sums, writes = counting_ufuncs()
    about = np.empty(2, np.int64)
    sums(counts, about)
    if about[1] < 0:
        raise RuntimeError("repeats can not be negative")
    if output_size is not None and output_size != about[0]:
        raise RuntimeError("allocated size does not match required size")
    out = np.empty(int(about[0]), np.int64)
    if out.size:
        writes(counts, out)
    return out
