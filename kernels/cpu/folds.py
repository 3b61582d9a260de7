"""Folds (reductions): source text of their kernels, and which of them runs for which shape and layout.

A record (kernels.book.Fold) has up to three kernels in a dtype, compiled when first needed: "small" walks the elements of a
result one by one; "along" and "across" go through lanes, a block of running states in vector registers, which are neighbouring
elements of one result ("along") or neighbouring results ("across"). Every BLOCK rounds the lanes go into totals of a wider
dtype: the error of blocks of 32, at the speed of float32. The order of operations depends on shapes and strides only, never
on threads. Sums take runs instead of lanes (`is_sum`). Scans are in kernels.cpu.scans; the records themselves in kernels.ops.
"""
from __future__ import annotations

import functools
import itertools
import math

import numpy as np

from ..book import Fold
from ..source import (
    FLOATING,
    ITEMSIZE,
    convert,
    functions,
    indented,
    is_sum,
    loaded,
    neutral,
    results_of,
    states,
    stored,
)
from . import pool
from .native import Program, make_kernel

LANES, BLOCK = 64, 32
RUN = 1024              # neighbouring elements of a sum added in the running dtype before they go into its total
SHORT = 12              # elements from which the lanes of a sum pay along one row
TILE, ROWS = 512, 8     # neighbouring sums whose totals stay in the first cache; elements added in the running dtype
SMALL = 1024            # elements up to which the "small" kernel is as fast
PART = 1 << 16          # elements in one part of a fold over a whole large array; parts run on several threads


# --- pieces of source -------------------------------------------------------------------------------------------------

def memory(base: str, types: tuple[str, ...], slot: str) -> list[tuple[str, str]]:
    """(pointer, offset) of each component of the `slot`-th state in a block on the stack, one array per component."""
    places, offset = [], 0
    for d in types:
        places.append((base, f"{offset} + {slot} * {ITEMSIZE[d]}"))
        offset += LANES * ITEMSIZE[d]
    return places


def read(base: str, types: tuple[str, ...], slot: str) -> str:
    """A state read from a block."""
    values = [f"as_{d}({loaded(d, *place, how='peek')})" for d, place in zip(types, memory(base, types, slot), strict=True)]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def write(base: str, types: tuple[str, ...], slot: str, value: str) -> list[str]:
    """Statements that put the state named `value` into a block."""
    if len(types) == 1:
        return [stored(types[0], *memory(base, types, slot)[0], value)]
    places = zip(types, memory(base, types, slot), strict=True)
    return [stored(d, *place, f"{value}[{k}]") for k, (d, place) in enumerate(places)]


# --- programs ---------------------------------------------------------------------------------------------------------

def fold_program(op: Fold, dtype: str, form: str = "small") -> Program:
    """The kernel of a fold in `dtype`.

    form "small", "along": (r) elements -> one result; "across": (r,b) elements -> b results; with "_part" appended, wide
    states come out, one array per component, instead of results; "merge": wide states (r) and how many elements they stand
    for -> results. Sums have templates of their own for "along" and "across".
    """
    if form == "merge":
        return _merge_program(op, dtype)
    layout, _, part = form.partition("_")
    _, wide = states(op, dtype)
    outputs = wide if part else results_of(op, dtype)
    across = layout == "across"
    nin = 1 + op.extra
    core = nin + len(outputs)               # where the steps of core dimensions begin: x's, then extras', then results'
    sizes = "n, r, b = dimensions[0], dimensions[1], dimensions[2]" if across else "n, r = dimensions[0], dimensions[1]"
    c = ["def kernel(args, dimensions, steps, data):", f"    {sizes}", f"    source, along = args[0], steps[{core}]"]
    if across:
        c += [f"    beside = steps[{core + 1}]", *(f"    beside_e{k} = steps[{core + 2 + k}]" for k in range(op.extra)),
              *(f"    beside_q{k} = steps[{core + 2 + op.extra + k}]" for k in range(len(outputs)))]
    c += ["    for outer in range(n):", "        x = outer * steps[0]",
          *(f"        e{k} = outer * steps[{1 + k}]" for k in range(op.extra)),
          *(f"        q{k} = outer * steps[{nin + k}]" for k in range(len(outputs)))]
    finish = ["result = total" if part else "result = finish(total, r)"]
    for k, d in enumerate(outputs):
        place = f"q{k} + (first + lane) * beside_q{k}" if across else f"q{k}"
        finish.append(stored(d, f"args[{nin + k}]", place, f"result[{k}]" if len(outputs) > 1 else "result"))
    if not across:
        c += [f"        extra{k} = {loaded(dtype, f'args[{1 + k}]', f'e{k}')}" for k in range(op.extra)]
    if is_sum(op, dtype):
        templates = {"small": _small, "along": _along_sum, "across": _across_sum}
        if across:
            c.insert(1, f"    totals = stack({TILE * ITEMSIZE[wide[0]]})")
        if layout != "small":
            c.insert(1, f"    gathered = stack({(ROWS * TILE if across else RUN) * ITEMSIZE[dtype]})")
    else:
        templates = {"small": _small, "along": _along, "across": _across}
        if layout != "small":
            c = _with_stack(op, dtype, c)
    c += indented(2, templates[layout](op, dtype, finish))
    if any(d in FLOATING for d in (dtype, *outputs)):
        c.append("    clear_status()")
    names = ["(r,b)"] + ["(b)"] * op.extra if across else ["(r)"] + ["()"] * op.extra
    targets = ["(b)" if across else "()"] * len(outputs)
    return Program(f"{op.name}_{form}_{dtype}", "\n".join(c) + "\n", functions=functions(op, dtype, wide),
                   inputs=(dtype,) * nin, outputs=outputs, signature=f"{','.join(names)}->{','.join(targets)}", work=op.work,
                   fastmath={"combine": ("reassoc",)} if is_sum(op, dtype) and layout == "along" else {})


def _lifted(types: tuple[str, ...], element: str, position: str, extras: list[str], name: str = "lifted") -> list[str]:
    """Statements that make the state `name`, of dtypes `types`, from an element."""
    return [f"element = lift({', '.join([element, position, *extras])})", f"{name} = {convert(types, 'element')}"]


def _small(op: Fold, dtype: str, finish: list[str]) -> list[str]:
    _, wide = states(op, dtype)
    extras = [f"extra{k}" for k in range(op.extra)]
    return [f"total = {neutral(op, dtype, wide)}", "for k in range(r):",
            *indented(1, [*_lifted(wide, loaded(dtype, "source", "x + k * along"), "k", extras),
                          "merged = combine(total, lifted)", f"total = {convert(wide, 'merged')}"]), *finish]


def _sizes(op: Fold, dtype: str) -> tuple[int, int]:
    state, wide = states(op, dtype)
    return LANES * sum(ITEMSIZE[d] for d in state), LANES * sum(ITEMSIZE[d] for d in wide)


def _with_stack(op: Fold, dtype: str, code: list[str]) -> list[str]:
    """The header, after it the blocks of memory: `gathered` holds one block of elements whose stride is not one."""
    lanes, totals = _sizes(op, dtype)
    size = ITEMSIZE[dtype]
    blocks = [f"    lanes, totals, gathered = stack({lanes}), stack({totals}), stack({BLOCK * LANES * size})"]
    blocks += [f"    spread{k} = stack({LANES * size})" for k in range(op.extra)] if "    beside = " in "\n".join(code) else []
    return [code[0], *blocks, *code[1:]]


def _block(op: Fold, dtype: str, element: str, position: str, extras: list[str]) -> list[str]:
    """`count` rounds over the lanes, then the lanes into the totals. All trip counts over the lanes are constant, so that LLVM
    unrolls those loops and keeps the lanes in vector registers."""
    state, wide = states(op, dtype)
    return [f"begin = {neutral(op, dtype, state)}",
            f"for lane in range({LANES}):", *indented(1, write("lanes", state, "lane", "begin")),
            "for q in range(count):", f"    for lane in range({LANES}):",
            *indented(2, [*_lifted(state, element, position, extras),
                          f"merged = combine({read('lanes', state, 'lane')}, lifted)",
                          f"kept = {convert(state, 'merged')}", *write("lanes", state, "lane", "kept")]),
            f"for lane in range({LANES}):",
            *indented(1, [f"part = {read('lanes', state, 'lane')}", f"widened = {convert(wide, 'part')}",
                          f"joined = combine({read('totals', wide, 'lane')}, widened)",
                          f"kept_total = {convert(wide, 'joined')}",
                          *write("totals", wide, "lane", "kept_total")])]


def _along(op: Fold, dtype: str, finish: list[str]) -> list[str]:
    _, wide = states(op, dtype)
    size = ITEMSIZE[dtype]
    extras = [f"extra{k}" for k in range(op.extra)]
    code = [f"begin_total = {neutral(op, dtype, wide)}", f"for lane in range({LANES}):",
            *indented(1, write("totals", wide, "lane", "begin_total")), f"rounds = r // {LANES}",
            f"for i in range(0, rounds, {BLOCK}):",
            *indented(1, [f"count = min(rounds - i, {BLOCK})", f"place, at = source, x + i * {LANES} * along",
                          f"if along != {size}:", f"    for k in range(count * {LANES}):",
                          f"        store_{dtype}(gathered, k * {size}, load_{dtype}(source, at + k * along))",
                          "    place, at = gathered, 0",
                          *_block(op, dtype, loaded(dtype, "place", f"at + (q * {LANES} + lane) * {size}", how="peek"),
                                  f"(i + q) * {LANES} + lane", extras)]),
            # what is left goes to the first totals, one element each; then the totals in halves
            f"rest = rounds * {LANES}", "for lane in range(r - rest):",
            *indented(1, [*_lifted(wide, loaded(dtype, "source", "x + (rest + lane) * along"), "rest + lane", extras, "last"),
                          f"together = combine({read('totals', wide, 'lane')}, last)",
                          f"kept_last = {convert(wide, 'together')}",
                          *write("totals", wide, "lane", "kept_last")])]
    code += _halving(op, wide) if len(wide) > 1 or op.work > 1 else _tree(wide)
    return [*code, f"total = {read('totals', wide, '0')}", *finish]


def _halving(op: Fold, wide: tuple[str, ...]) -> list[str]:
    """The totals combined in halves into the first; little source for states of several components."""
    code, half = [], LANES // 2
    while half:
        code += [f"for lane in range({half}):",
                 *indented(1, [f"pair = combine({read('totals', wide, 'lane')}, {read('totals', wide, f'(lane + {half})')})",
                               f"kept_pair = {convert(wide, 'pair')}", *write("totals", wide, "lane", "kept_pair")])]
        half //= 2
    return code


def _tree(wide: tuple[str, ...]) -> list[str]:
    """The totals combined into the first, eight vectors at a time: fewer trips through memory, which count in short rows."""
    def join(values: list[str]) -> str:
        while len(values) > 1:
            middle = len(values) // 2
            values = [f"as_{wide[0]}(combine({a}, {b}))" for a, b in zip(values[:middle], values[middle:], strict=True)]
        return values[0]
    eighth = LANES // 8
    return [f"for lane in range({eighth}):",
            f"    pair = {join([read('totals', wide, f'(lane + {k * eighth})') for k in range(8)])}",
            *indented(1, write("totals", wide, "lane", "pair")),
            f"whole = {join([read('totals', wide, str(k)) for k in range(eighth)])}", *write("totals", wide, "0", "whole")]


# Sums may be added up in any order, so LLVM itself may choose the lanes: `combine` is compiled with leave to reassociate.

def _along_sum(op: Fold, dtype: str, finish: list[str]) -> list[str]:
    """Runs of up to RUN elements are added in the running dtype, their sums in the wide one."""
    state, wide = states(op, dtype)
    size = ITEMSIZE[dtype]
    extras = [f"extra{k}" for k in range(op.extra)]
    run = [f"count, part = min(r - i, {RUN}), {neutral(op, dtype, state)}", "place, at = source, x + i * along",
           f"if along != {size}:", "    for k in range(count):",
           f"        store_{dtype}(gathered, k * {size}, load_{dtype}(source, at + k * along))",
           "    place, at = gathered, 0", "for k in range(count):",
           *indented(1, [*_lifted(state, loaded(dtype, "place", f"at + k * {size}", how="peek"), "i + k", extras),
                         "merged = combine(part, lifted)", f"part = {convert(state, 'merged')}"]),
           f"widened = {convert(wide, 'part')}", "joined = combine(total, widened)", f"total = {convert(wide, 'joined')}"]
    return [f"total = {neutral(op, dtype, wide)}", f"for i in range(0, r, {RUN}):", *indented(1, run), *finish]


def _across_sum(op: Fold, dtype: str, finish: list[str]) -> list[str]:
    """Rows are read in runs of up to TILE elements, ROWS of them at a time."""
    state, wide = states(op, dtype)
    size, width = ITEMSIZE[dtype], ITEMSIZE[wide[0]]
    extras = [loaded(dtype, f"args[{1 + k}]", f"e{k} + (first + lane) * beside_e{k}") for k in range(op.extra)]
    total = f"as_{wide[0]}({loaded(wide[0], 'totals', f'lane * {width}', how='peek')})"

    def rows(count: int) -> list[str]:
        code, names = ["for lane in range(width):"], [f"v{k}" for k in range(count)]
        for k, name in enumerate(names):
            element = loaded(dtype, "place", f"at + {k} * row + lane * {size}", how="peek")
            code += indented(1, _lifted(state, element, f"q + {k}", extras, name))
        while len(names) > 1:
            names = [f"as_{state[0]}(combine({a}, {b}))" for a, b in zip(names[::2], names[1::2], strict=True)]
        return [*code, *indented(1, [f"joined = combine({total}, as_{wide[0]}({names[0]}))",
                                     stored(wide[0], "totals", f"lane * {width}", "joined")])]

    gather = [f"if beside != {size}:", "    for k in range(count):", "        for lane in range(width):",
              f"            store_{dtype}(gathered, (k * {TILE} + lane) * {size}, "
              f"load_{dtype}(source, at + k * along + lane * beside))",
              f"    place, at, row = gathered, 0, {TILE * size}"]
    tile = [f"width = min(b - first, {TILE})", "for lane in range(width):", f"    start = {neutral(op, dtype, wide)}",
            "    " + stored(wide[0], "totals", f"lane * {width}", "start"), f"for i in range(0, r, {ROWS}):",
            *indented(1, [f"count, q = min(r - i, {ROWS}), i",
                          "place, at, row = source, x + i * along + first * beside, along",
                          *gather, f"if count == {ROWS}:", *indented(1, rows(ROWS)),
                          "else:", "    for q in range(i, i + count):", *indented(2, [*rows(1), "at += row"])]),
            "for lane in range(width):", f"    total = {total}", *indented(1, finish)]
    return [f"for first in range(0, b, {TILE}):", *indented(1, tile)]


def _zero_of(dtype: str) -> str:
    """Zero as the type that `store_<dtype>` takes."""
    return f"as_{'uint8' if dtype == 'bool' else 'uint16' if dtype == 'float16' else dtype}(0)"


def _across(op: Fold, dtype: str, finish: list[str]) -> list[str]:
    _, wide = states(op, dtype)
    size = ITEMSIZE[dtype]
    extras = [loaded(dtype, f"spread{k}", f"lane * {size}", how="peek") for k in range(op.extra)]
    # the last tile overlaps the one before it, which gives the same results again; where there are fewer results than lanes,
    # the lanes beyond them work on zeros
    here = f"(q * {LANES} + lane) * {size}"
    spread = [f"    store_{dtype}(spread{k}, lane * {size}, load_{dtype}(args[{1 + k}], "
              f"e{k} + (first + min(lane, width - 1)) * beside_e{k}))" for k in range(op.extra)]
    gather = [f"if beside != {size} or width < {LANES}:", "    for q in range(count):", "        line = at + q * along",
              f"        if beside == {size}:", "            for lane in range(width):",
              f"                store_{dtype}(gathered, {here}, load_{dtype}(source, line + lane * {size}))",
              "        else:", "            for lane in range(width):",
              f"                store_{dtype}(gathered, {here}, load_{dtype}(source, line + lane * beside))",
              f"    place, at, row = gathered, 0, {LANES * size}"]
    element = loaded(dtype, "place", f"at + q * row + lane * {size}", how="peek")
    tile = [f"first = max(0, min(tile, b - {LANES}))", f"width = min(b - first, {LANES})", f"if width < {LANES}:",
            f"    for k in range({BLOCK * LANES}):", f"        store_{dtype}(gathered, k * {size}, {_zero_of(dtype)})",
            f"start = {neutral(op, dtype, wide)}", f"for lane in range({LANES}):",
            *indented(1, write("totals", wide, "lane", "start")), *spread,
            f"for i in range(0, r, {BLOCK}):", f"    count = min(r - i, {BLOCK})",
            "    place, at, row = source, x + i * along + first * beside, along",
            *indented(1, gather), *indented(1, _block(op, dtype, element, "i + q", extras)),
            "for lane in range(width):", *indented(1, [f"total = {read('totals', wide, 'lane')}", *finish])]
    return [f"for tile in range(0, b, {LANES}):", *indented(1, tile)]


def _merge_program(op: Fold, dtype: str) -> Program:
    """Wide states of parts, in order -> results; a position (last component) counts from the start of its part.

    Two more inputs: how many elements there were in all, and in each part.
    """
    _, wide = states(op, dtype)
    outputs = results_of(op, dtype)
    k_in = len(wide)
    core = k_in + 2 + len(outputs)
    pieces = [f"as_{d}({loaded(d, f'args[{k}]', f'outer * steps[{k}] + k * steps[{core + k}]')})" for k, d in enumerate(wide)]
    if op.positions:
        pieces[-1] = f"as_{wide[-1]}({pieces[-1]} + k * length)"
    c = ["def kernel(args, dimensions, steps, data):", "    n, r = dimensions[0], dimensions[1]",
         f"    length = load_int64(args[{k_in + 1}], 0)", "    for outer in range(n):",
         f"        total = {neutral(op, dtype, wide)}", "        for k in range(r):",
         f"            piece = {pieces[0] if len(pieces) == 1 else '(' + ', '.join(pieces) + ')'}",
         "            merged = combine(total, piece)", f"            total = {convert(wide, 'merged')}",
         f"        result = finish(total, load_int64(args[{k_in}], outer * steps[{k_in}]))"]
    for k, d in enumerate(outputs):
        value = f"result[{k}]" if len(outputs) > 1 else "result"
        c.append("        " + stored(d, f"args[{k_in + 2 + k}]", f"outer * steps[{k_in + 2 + k}]", value))
    if any(d in FLOATING for d in (*wide, *outputs)):
        c.append("    clear_status()")
    signature = f"{','.join(['(r)'] * k_in)},(),()->{','.join(['()'] * len(outputs))}"
    return Program(f"{op.name}_merge_{dtype}", "\n".join(c) + "\n", functions=functions(op, dtype, wide),
                   inputs=(*wide, "int64", "int64"), outputs=outputs, signature=signature, work=op.work)


# --- running ----------------------------------------------------------------------------------------------------------

@functools.cache
def kernel_of(op: Fold, dtype: np.dtype, form: str) -> np.ufunc:
    """The loaded kernel of a fold in one dtype and form."""
    return make_kernel(fold_program(op, dtype.name, form))


def run(op: Fold, x: np.ndarray, dims: tuple[int, ...] | None = None, keepdim: bool = False, extra: tuple = ()):
    """Fold an array over `dims` (None: all of them; (): none). Returns an array, or a tuple for several results.

    Positions (for argmax) count the folded dimensions in row-major order, so at most one dimension or all of them may be folded
    there. `extra` operands broadcast to the result with the folded dimensions kept at size 1.
    """
    n = x.ndim
    if dims is None or len(dims) == n:
        results = _whole(op, x, tuple(np.broadcast_to(e, (1,) * n).reshape(()) for e in extra) if extra else ())
        if not keepdim or not n:
            return results
        shape = (1,) * n
    else:
        if extra:
            held = tuple(1 if d in dims else m for d, m in enumerate(x.shape))
            extra = tuple(np.broadcast_to(e, held).squeeze(dims) for e in extra)
        if len(dims) == 1:
            results = _one(op, x, dims[0], extra)
        elif not dims:
            results = _one(op, x.reshape(*x.shape, 1), n, extra)
        else:
            results = _several(op, x, dims, extra)
        if not keepdim:
            return results
        shape = tuple(1 if d in dims else m for d, m in enumerate(x.shape))
    if isinstance(results, tuple):
        return tuple(v.reshape(shape) for v in results)
    return results.reshape(shape)


def _whole(op: Fold, x: np.ndarray, extra: tuple):
    """All elements to one result."""
    size = x.size
    if size <= SMALL:
        return kernel_of(op, x.dtype, "small")(x if x.ndim == 1 else x.reshape(-1), *extra, out=...)
    if not x.flags.c_contiguous:
        if not op.positions:
            order = sorted(range(x.ndim), key=lambda d: -abs(x.strides[d]))
            x = x.transpose(order)
            if not x.flags.c_contiguous:
                return _several(op, x, tuple(range(x.ndim)), extra)
        else:
            from .copies import copy
            x = copy(x)
    flat = x.reshape(-1)
    if size < 2 * PART:
        return kernel_of(op, x.dtype, "along")(flat, *extra, out=...)
    pool.ensure()
    parts = -(-size // PART)
    length = size // parts
    part, merge = kernel_of(op, x.dtype, "along_part"), kernel_of(op, x.dtype, "merge")
    left = size - parts * length
    if not left:
        pieces = part(flat.reshape(parts, length), *extra)
        return merge(*pieces, size, length, out=...) if pieces.__class__ is tuple else merge(pieces, size, length, out=...)
    pieces = tuple(np.empty(parts + 1, t) for t in states(op, x.dtype.name)[1])
    part(flat[:parts * length].reshape(parts, length), *extra, out=tuple(p[:parts] for p in pieces))
    part(flat[parts * length:].reshape(1, left), *extra, out=tuple(p[parts:] for p in pieces))
    return merge(*pieces, size, length, out=...)


def _one(op: Fold, x: np.ndarray, d: int, extra: tuple, part: str = ""):
    """One dimension away; with `part`, wide states instead of results."""
    n, shape = x.ndim, x.shape
    last = d == n - 1
    if x.size <= SMALL:
        y = x if last else x.swapaxes(0, 1) if n == 2 else x.transpose(*range(d), *range(d + 1, n), d)
        return kernel_of(op, x.dtype, "small" + part)(y, *extra, out=...)
    if x.size >= pool.GRAIN:
        pool.ensure()
    r = shape[d]
    kept = shape[:d] + shape[d + 1:]
    if x.flags.c_contiguous:
        lead, tail = (shape[0], 1) if last and n == 2 else (math.prod(shape[:d]), math.prod(shape[d + 1:]))
        if extra:
            extra = tuple(e.reshape((lead, tail) if tail != 1 else (lead,)) for e in extra)
        if tail == 1:
            if r < (SHORT if op.sums else LANES) and lead >= LANES:
                form, core = "across", x.reshape(lead, r).T
            else:
                form, core = "along", x.reshape(lead, r)
        elif tail >= 16 or (r < LANES and lead * tail < 16 * LANES):
            form, core = "across", x.reshape(lead, r, tail)
        else:
            form, core = "along" if r >= LANES else "small", x.reshape(lead, r, tail).swapaxes(1, 2)
    else:
        strides = x.strides
        rest = [k for k in range(n) if k != d]
        inner = min(rest, key=lambda k: abs(strides[k]) if shape[k] > 1 else 1 << 62)
        if abs(strides[d]) <= abs(strides[inner]) or shape[inner] < 16:
            form = "along" if r >= LANES else "small"
            core = x if last else x.transpose(*rest, d)
        else:       # the free dimension of the smallest stride goes to the lanes
            outer = [k for k in rest if k != inner]
            core = x.transpose(*outer, d, inner)
            order = [rest.index(k) for k in (*outer, inner)]
            extra = tuple(e.transpose(order) for e in extra)
            results = kernel_of(op, x.dtype, "across" + part)(core, *extra, out=...)
            back = [order.index(k) for k in range(n - 1)]
            if isinstance(results, tuple):
                return tuple(v.transpose(back) for v in results)
            return results.transpose(back)
    results = kernel_of(op, x.dtype, form + part)(core, *extra, out=...)
    if isinstance(results, tuple):
        return tuple(v.reshape(kept) for v in results)
    return results if results.shape == kept else results.reshape(kept)


def _several(op: Fold, x: np.ndarray, dims: tuple[int, ...], extra: tuple):
    """Several dimensions away: as one where they lie one stride apart, else the last into wide states, then the rest."""
    shape = x.shape
    if x.flags.c_contiguous and all(b == a + 1 for a, b in itertools.pairwise(dims)):
        joined = math.prod(shape[d] for d in dims)
        y = x.reshape(*shape[:dims[0]], joined, *shape[dims[-1] + 1:])
        return _one(op, y, dims[0], extra)
    if any(a >= b for a, b in itertools.pairwise(dims)):
        dims = tuple(sorted(dims))
    kept = tuple(d for d in range(x.ndim) if d not in dims)
    count = math.prod(shape[d] for d in dims)
    tail = [dims[-1]]
    while len(tail) < len(dims) and dims[-len(tail) - 1] == tail[0] - 1 and x.flags.c_contiguous:
        tail.insert(0, tail[0] - 1)
    first = tail[0]
    y = x.reshape(*shape[:first], math.prod(shape[d] for d in tail), *shape[tail[-1] + 1:]) if len(tail) > 1 else x
    # extras have the shape of the result; the dimensions still to be merged broadcast in them
    still = dims[:len(dims) - len(tail)]
    rest = tuple(m for d, m in enumerate(y.shape) if d != first)
    wide = tuple(np.broadcast_to(np.expand_dims(e, still), rest) for e in extra)
    pieces = _one(op, y, first, wide, "_part")
    pieces = pieces if isinstance(pieces, tuple) else (pieces,)
    moved = []
    axes = tuple(d if d < first else d - len(tail) for d in kept)
    for p in pieces:
        p = p.transpose(*axes, *still)
        moved.append(p.reshape(*p.shape[:len(kept)], math.prod(p.shape[len(kept):])))
    return kernel_of(op, x.dtype, "merge")(*moved, count, 0, out=...)
