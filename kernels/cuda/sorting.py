"""Sorting on CUDA: argsort and the positions of the largest, as keys of 32 or 64 bits with their positions (kernels.cpu.sorting).

    tile      rows of up to TILE elements, several a block where they are short: a bitonic network in shared memory. Of longer rows
              each TILE elements become a sorted run; for topk the first `keep` of them, and these are sorted again till one is left
    merge     two neighbouring runs become one: a block makes TILE neighbours of the result, which it finds by two binary searches

Equal keys keep their order (the network compares positions too, a merge takes the first run's), so that the result is the one
order there is. No atomics; reads and writes of global memory are coalesced. Called through `kernels.cuda.records`; searching in
what is sorted is in `kernels.cuda.searching`. Source: bitonic sort with mirrored first steps, Knuth TAOCP 3, 5.3.4; merging by
diagonals, Odeh, Green, Mwassi, Shmueli, Birk: Merge Path (2012).
"""
from __future__ import annotations

import functools
import math

from ..cpu.sorting import key_source
from ..source import ITEMSIZE, indented
from .compiler import Program
from .launch import BLOCKS, Launch, View, contiguous
from .transposes import copy

THREADS, EACH = 256, 4
TILE = THREADS * EACH
SELECTED = TILE // 2    # up to how many elements topk keeps the first of each tile, instead of sorting everything
LONGEST = (1 << 31) - 2                 # elements of a row: positions are int32 on the way
REST = (1 << 31) - 1                    # position of what fills up a tile


def _written(bits: str, offset: str, slot: str) -> list[str]:
    """Statements that store an element of shared memory: its position as int64 where `last`, else key and position."""
    return ["if last != 0:", f"    store_int64(q, ({offset}) * 8, as_int64(peek_int32(positions, {slot} * 4)))", "else:",
            f"    store_{bits}(q, ({offset}) * {ITEMSIZE[bits]}, peek_{bits}(keys, {slot} * {ITEMSIZE[bits]}))",
            f"    store_int32(p, ({offset}) * 4, peek_int32(positions, {slot} * 4))"]


@functools.cache
def tile_program(dtype: str, pairs: bool) -> Program:
    """Rows (n, r) of elements in C order, or where `pairs` of keys `x` and positions `y` -> the first `keep` of each sorted tile.

    Arguments: addresses of keys and positions (in the last pass of positions alone, int64), x and y; n, r, tiles of a row,
    elements of a result's row, logarithm of the tile's width, keep, last, and 1 to turn the order round.
    """
    function, stored, bits = ("", dtype, dtype) if pairs else key_source(dtype)
    size = ITEMSIZE[bits]
    full = f"as_{bits}({(1 << 8 * size) - 1})"
    value = f"read_{stored}(x, (row * r + j) * {ITEMSIZE[stored]})"
    taken = [f"k = {value}", "i = read_int32(y, (row * r + j) * 4)"] if pairs else [
        f"k = as_{bits}(key({value}) ^ flip)", "i = as_int32(j)"]
    here = ["item = first + (s >> shift)", "row = quotient(item, tiles)", "j = (item - row * tiles) * width + (s & (width - 1))"]
    load = [*here, f"k, i = {full}, as_int32({REST})", "if item < items and j < r:", *indented(1, taken),
            f"keep_{bits}(keys, s * {size}, k)", "keep_int32(positions, s * 4, i)", f"s = s + {THREADS}"]
    exchange = ["within = t & (distance - 1)", "low = 2 * (t - within) + within", "high = low + distance",
                "if mirrored:", "    high = 2 * (t - within) + span - 1 - within",
                f"a, b = peek_{bits}(keys, low * {size}), peek_{bits}(keys, high * {size})",
                "i, j = peek_int32(positions, low * 4), peek_int32(positions, high * 4)", "if a > b or (a == b and i > j):",
                *indented(1, [f"keep_{bits}(keys, low * {size}, b)", f"keep_{bits}(keys, high * {size}, a)",
                              "keep_int32(positions, low * 4, j)", "keep_int32(positions, high * 4, i)"]), f"t = t + {THREADS}"]
    network = ["span = 2", "while span <= width:",
               *indented(1, ["distance, mirrored = span >> 1, True", "while distance > 0:",
                             *indented(1, ["t = thread()", f"while t < {TILE // 2}:", *indented(1, exchange), "barrier()",
                                           "distance, mirrored = distance >> 1, False"]), "span = span << 1"])]
    store = [*here, "if item < items and j < r and (s & (width - 1)) < keep:",
             *indented(1, _written(bits, "row * out + (item - row * tiles) * keep + (s & (width - 1))", "s")), f"s = s + {THREADS}"]
    code = [f"keys, positions = shared({TILE * size}), shared({TILE * 4})", "width = 1 << shift", "items = n * tiles",
            *([] if pairs else [f"flip = {full} if turned != 0 else as_{bits}(0)"]), f"first = block() * ({TILE} >> shift)",
            "while first < items:",
            *indented(1, ["s = thread()", f"while s < {TILE}:", *indented(1, load), "barrier()", *network, "s = thread()",
                          f"while s < {TILE}:", *indented(1, store), "barrier()",
                          f"first = first + blocks() * ({TILE} >> shift)"])]
    addresses = ["q", "p", "x", *(["y"] if pairs else [])]
    numbers = ["n", "r", "tiles", "out", "shift", "keep", "last", *([] if pairs else ["turned"])]
    source = [function, f"def kernel({', '.join([*addresses, *numbers])}):", *indented(1, code)]
    types = ("address",) * len(addresses) + ("int64",) * len(numbers)
    return Program(f"sort_tiles_{'of_pairs_' if pairs else ''}{dtype}", "\n".join(source) + "\n", types, {}, THREADS)


def _split(left: str, right: str, many: str, few: str, diagonal: str, found: str) -> list[str]:
    """Statements: how many of the first `diagonal` elements of a merged pair of runs come from the first run."""
    return [f"low, high = max(0, {diagonal} - {few}), min({diagonal}, {many})", "while low < high:",
            *indented(1, ["middle = (low + high) >> 1",
                          f"if {left.format('middle')} <= {right.format(f'({diagonal} - 1 - middle)')}:",
                          "    low = middle + 1", "else:", "    high = middle"]), f"{found} = low"]


@functools.cache
def merge_program(bits: str) -> Program:
    """Runs of `length` keys `x` with positions `y`, in rows (n, r), merged two by two.

    Arguments: addresses of keys and positions (in the last pass of positions alone, int64), x and y; n, r, length, tiles of a row,
    last.
    """
    size = ITEMSIZE[bits]
    one = f"read_{bits}(x, (base + {{}}) * {size})"
    other = f"read_{bits}(x, (base + many + {{}}) * {size})"
    code = [f"keys, positions = shared({TILE * size}), shared({TILE * 4})", "item = block()", "while item < n * tiles:"]
    inner = ["row = quotient(item, tiles)", f"start = (item - row * tiles) * {TILE}", "pair = start & (0 - 2 * length)",
             "base = row * r + pair", "many = min(length, r - pair)", "few = min(2 * length, r - pair) - many",
             "begin = start - pair", f"end = min(begin + {TILE}, many + few)",
             *_split(one, other, "many", "few", "begin", "a"), *_split(one, other, "many", "few", "end", "last_a"),
             "left, right = last_a - a, end - last_a - (begin - a)", "b = many + begin - a", "s = thread()",
             "while s < left + right:",
             *indented(1, ["at = base + (a + s if s < left else b + s - left)",
                           f"keep_{bits}(keys, s * {size}, read_{bits}(x, at * {size}))",
                           "keep_int32(positions, s * 4, read_int32(y, at * 4))", f"s = s + {THREADS}"]), "barrier()",
             # each thread merges EACH neighbours, and keeps them in registers until all have read
             f"d = min(thread() * {EACH}, left + right)",
             *_split(f"peek_{bits}(keys, {{}} * {size})", f"peek_{bits}(keys, (left + {{}}) * {size})", "left", "right", "d", "u"),
             "v = d - u"]
    for e in range(EACH):
        inner += [f"k{e}, i{e} = as_{bits}(0), as_int32(0)", "if u + v < left + right:",
                  *indented(1, ["from_left = v >= right", "if u < left and v < right:",
                                f"    from_left = peek_{bits}(keys, u * {size}) <= peek_{bits}(keys, (left + v) * {size})",
                                "at = u if from_left else left + v", f"k{e} = peek_{bits}(keys, at * {size})",
                                f"i{e} = peek_int32(positions, at * 4)", "if from_left:", "    u = u + 1", "else:",
                                "    v = v + 1"])]
    inner.append("barrier()")
    for e in range(EACH):
        inner += [f"keep_{bits}(keys, (thread() * {EACH} + {e}) * {size}, k{e})",
                  f"keep_int32(positions, (thread() * {EACH} + {e}) * 4, i{e})"]
    inner += ["barrier()", "s = thread()", "while s < left + right:",
              *indented(1, [*_written(bits, "row * r + start + s", "s"), f"s = s + {THREADS}"]), "barrier()",
              "item = item + blocks()"]
    parameters = ["n", "r", "length", "tiles", "last"]
    source = [f"def kernel(q, p, x, y, {', '.join(parameters)}):", *indented(1, [*code, *indented(1, inner)])]
    return Program(f"sort_merge_{bits}", "\n".join(source) + "\n", ("address",) * 4 + ("int64",) * len(parameters), {}, THREADS)


# --- rows -------------------------------------------------------------------------------------------------------------

def rows_of(device, x: View, dim: int) -> View:
    """The array in C order with the dimension `dim` last; a number is a row of one."""
    if not x.shape:
        return x._replace(shape=(1,), strides=(ITEMSIZE[x.dtype],))
    order = [d for d in range(len(x.shape)) if d != dim] + [dim]
    turned = x._replace(shape=tuple(x.shape[d] for d in order), strides=tuple(x.strides[d] for d in order))
    if turned.strides == contiguous(0, x.dtype, turned.shape).strides:
        return turned
    made = device.empty(x.dtype, turned.shape)
    device.run(copy(made, turned))
    return made


def _back(found: View, x: View, dim: int) -> View:
    """What was found in `rows_of(x, dim)`, its last dimension back in its place."""
    if not x.shape:
        return found._replace(shape=(), strides=()) if found.size else found
    order = list(range(len(x.shape) - 1))
    order.insert(dim, len(x.shape) - 1)
    return found._replace(shape=tuple(found.shape[d] for d in order), strides=tuple(found.strides[d] for d in order))


def _results(device, bits: str, shape: tuple[int, ...], last: bool) -> list[View]:
    """What a pass makes: keys and positions, or after the last pass positions, which are given twice."""
    return [device.empty("int64", shape)] * 2 if last else [device.empty(bits, shape), device.empty("int32", shape)]


def _tiles(device, x: View, y: View | None, n: int, r: int, keep: int, turned: bool) -> list[View]:
    """The first `keep` of each sorted tile, of elements `x` or of keys and positions; positions, twice, where a row is one tile."""
    tiles = -(-r // TILE)
    out = (tiles - 1) * keep + min(keep, r - (tiles - 1) * TILE)
    bits = x.dtype if y else key_source(x.dtype)[2]
    results = _results(device, bits, (n, out), tiles == 1)
    shift = min(TILE.bit_length() - 1, (r - 1).bit_length())
    numbers = [n, r, tiles, out, shift, keep, int(tiles == 1), *([] if y else [int(turned)])]
    addresses = [v.address for v in (*results, x, *([y] if y else []))]
    grid = min(BLOCKS, -(-n * tiles // (TILE >> shift)))
    device.run([Launch(tile_program(x.dtype, y is not None), grid, (*addresses, *numbers))])
    return results


def sorted_rows(device, x: View, descending: bool = False) -> View:
    """Positions (int64, of the shape of `x`, which is in C order and not empty) that put rows in order; equals keep theirs."""
    r = x.shape[-1]
    n, tiles, length = x.size // r, -(-r // TILE), TILE
    keys, positions = _tiles(device, x, None, n, r, TILE, descending)
    while length < r:
        last = 2 * length >= r
        results = _results(device, keys.dtype, x.shape, last)
        addresses = [v.address for v in (*results, keys, positions)]
        device.run([Launch(merge_program(keys.dtype), min(BLOCKS, n * tiles), (*addresses, n, r, length, tiles, int(last)))])
        keys, positions = results
        length *= 2
    return contiguous(positions.address, "int64", x.shape)._replace(owner=positions.owner)


def argsort(device, x: View, dim: int, descending: bool) -> View:
    """Indices (int64) that sort along a dimension."""
    rows = rows_of(device, x, dim)
    if not rows.size:
        return device.empty("int64", x.shape)
    if rows.shape[-1] > LONGEST or x.dtype.startswith("complex"):
        return NotImplemented
    return _back(sorted_rows(device, rows, bool(descending)), x, dim)


def top_positions(device, x: View, k: int, dim: int, largest: bool) -> View:
    """Indices (int64) of the k largest or smallest elements along a dimension, in order."""
    rows = rows_of(device, x, dim)
    shape = (*rows.shape[:-1], k)
    if not math.prod(shape):
        return _back(device.empty("int64", shape), x, dim)
    if rows.shape[-1] > LONGEST or x.dtype.startswith("complex"):
        return NotImplemented
    if k > SELECTED:
        found = sorted_rows(device, rows, bool(largest))
        made = device.empty("int64", shape)
        device.run(copy(made, found._replace(shape=shape)))
        return _back(made, x, dim)
    n, keys, positions = rows.size // rows.shape[-1], rows, None
    while positions is None or positions.dtype != "int64":
        keys, positions = _tiles(device, keys, positions, n, keys.shape[-1], k, bool(largest))
    return _back(contiguous(positions.address, "int64", shape)._replace(owner=positions.owner), x, dim)
