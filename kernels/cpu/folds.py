"""Folds (reductions) and scans: one template for every record, dtype, and direction of memory.

A fold runs over `r` of an `(r, b)` array for each of `b` results. Elements go through lanes, a small block of running states on the
stack: neighbouring elements when memory runs along `r`, neighbouring results when it runs along `b`. Either way the inner loop
is `lane[j] = combine(lane[j], lift(x[...j]))`, which LLVM vectorises. Every BLOCK rounds the lanes go into totals of a wider
dtype, so a sum of float32 has the error of blocks of 64, at the speed of float32. The order of operations depends on shapes and strides only.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..book import Fold
from . import pool
from .maps import FLOATING, ITEMSIZE, loaded, stored
from .native import Program, make_ufunc

LANES, BLOCK = 64, 32
PART = 1 << 16          # elements in one part of a fold over a whole large array; parts run on several threads


def _states(op: Fold, dtype: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    state = op.state(dtype)
    return state, op.wide(dtype) if op.wide else state


def _memory(base: str, types: tuple[str, ...], slot: str) -> list[tuple[str, str]]:
    """(pointer, offset) of each component of the `slot`-th state in a block on the stack, one array per component."""
    places, offset = [], 0
    for d in types:
        places.append((base, f"{offset} + {slot} * {ITEMSIZE[d]}"))
        offset += LANES * ITEMSIZE[d]
    return places


def _read(base, types, slot) -> str:
    values = [f"as_{d}({loaded(d, *place, how='peek')})" for d, place in zip(types, _memory(base, types, slot), strict=True)]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _write(base, types, slot, value: str) -> list[str]:
    if len(types) == 1:
        return [stored(types[0], *_memory(base, types, slot)[0], value)]
    return [stored(d, *place, f"{value}[{k}]") for k, (d, place) in enumerate(zip(types, _memory(base, types, slot), strict=True))]


def _start(op: Fold, dtype: str, types: tuple[str, ...]) -> str:
    values = [f"as_{d}({_literal(v)})" for d, v in zip(types, op.start(dtype), strict=True)]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _literal(v) -> str:
    return repr(v)          # inf and nan are names that kernel source knows


def _convert(types, value: str) -> str:
    return f"as_{types[0]}({value})" if len(types) == 1 else (
        "(" + ", ".join(f"as_{d}({value}[{k}])" for k, d in enumerate(types)) + ")")


def fold_program(op: Fold, dtype: str, form: str = "whole") -> Program:
    """The kernel of a fold in `dtype`.

    form "whole": (r,b) elements -> results; "part": (r,b) elements -> wide states, one array per component;
    "merge": wide states (r,b) and the count of all elements () -> results.
    """
    state, wide = _states(op, dtype)
    result = op.result(dtype)
    results = result if isinstance(result, tuple) else (result,)
    merge = form == "merge"
    inputs = wide if merge else (dtype,)
    extras = () if merge else (dtype,) * op.extra
    outputs = wide if form == "part" else results
    running = wide if merge else state
    nin = len(inputs) + len(extras) + (1 if merge else 0)
    steps_at = nin + len(outputs)
    p = [f"p{k}" for k in range(len(inputs))]
    x = [f"x{k}" for k in range(len(inputs))]       # byte offsets of the current element
    sr = [f"steps[{steps_at + 2 * k}]" for k in range(len(inputs))]
    sb = [f"steps[{steps_at + 2 * k + 1}]" for k in range(len(inputs))]
    after = steps_at + 2 * len(inputs)
    e_step = [f"steps[{after + k}]" for k in range(len(extras))]
    o_step = [f"steps[{after + len(extras) + k}]" for k in range(len(outputs))]

    def element(offset: list[str], position: str, column: str) -> str:
        values = [loaded(d, p[k], offset[k]) for k, d in enumerate(inputs)]
        if merge:
            return _convert(wide, values[0]) if len(values) == 1 else f"({', '.join(values)})"
        more = [loaded(d, f"e{k}", f"eo{k} + ({column}) * {e_step[k]}") for k, d in enumerate(extras)]
        return _convert(state, f"lift({values[0]}, {', '.join([position, *more])})")

    def finish(column: str, indent: str) -> list[str]:
        value = "total" if form == "part" else f"finish(total, {'count' if merge else 'r'})"
        many = len(outputs) > 1
        return [f"{indent}result = {value}"] + [
            indent + stored(d, f"q{k}", f"qo{k} + ({column}) * {o_step[k]}", f"result[{k}]" if many else "result")
            for k, d in enumerate(outputs)]

    lane_bytes = sum(LANES * ITEMSIZE[d] for d in running)
    total_bytes = sum(LANES * ITEMSIZE[d] for d in wide)
    lane_total = _read("totals", wide, "lane")
    blocks = running != wide or (not merge and op.wide is not None)
    c = []
    c += ["def kernel(args, dimensions, steps, data):", "    n, r, b = dimensions[0], dimensions[1], dimensions[2]",
          f"    lanes, totals = stack({lane_bytes}), stack({total_bytes})"]
    c += [f"    {p[k]} = args[{k}]" for k in range(len(inputs))]
    c += [f"    e{k} = args[{len(inputs) + k}]" for k in range(len(extras))]
    c += [f"    q{k} = args[{nin + k}]" for k in range(len(outputs))]
    if merge:
        c += [f"    count = load_int64(args[{nin - 1}], 0)"]
    c += [f"    along = b == 1 or abs({sr[0]}) <= abs({sb[0]})", "    for outer in range(n):"]
    i1, i2, i3, i4, i5 = ("    " * k for k in range(2, 7))
    c += [f"{i1}{x[k]} = outer * steps[{k}]" for k in range(len(inputs))]
    c += [f"{i1}eo{k} = outer * steps[{len(inputs) + k}]" for k in range(len(extras))]
    c += [f"{i1}qo{k} = outer * steps[{nin + k}]" for k in range(len(outputs))]
    # memory runs along r: the lanes are neighbouring elements of one result
    c += [f"{i1}if along or b < 8:", f"{i2}for j in range(b):", f"{i3}total = {_start(op, dtype, wide)}", f"{i3}i = 0",
          f"{i3}if r >= {2 * LANES} and along:",
          f"{i4}for lane in range({LANES}):", *(i5 + s for s in _write("totals", wide, "lane", "total")),
          f"{i4}while i + {LANES} <= r:",
          f"{i5}rounds = {f'min((r - i) // {LANES}, {BLOCK})' if blocks else f'(r - i) // {LANES}'}",
          *_rounds(op, dtype, inputs, running, element, x, sr, sb, i5, True),
          *_flush(running, wide, i5),
          f"{i5}i += rounds * {LANES}",
          f"{i4}for lane in range({LANES}):",
          f"{i5}total = {_convert(wide, f'combine(total, {lane_total})')}",
          f"{i3}while i < r:", f"{i4}rounds = min(r - i, {BLOCK})", f"{i4}acc = {_start(op, dtype, running)}",
          f"{i4}for k in range(i, i + rounds):",
          f"{i5}acc = {_convert(running, 'combine(acc, ' + element([f'{x[k]} + k * {sr[k]} + j * {sb[k]}' for k in range(len(inputs))], 'k', 'j') + ')')}",
          f"{i4}total = {_convert(wide, 'combine(total, ' + _convert(wide, 'acc') + ')')}", f"{i4}i += rounds",
          *finish("j", i3)]
    # memory runs along b: the lanes are neighbouring results
    c += [f"{i1}else:", f"{i2}for j0 in range(0, b, {LANES}):", f"{i3}width = min(b - j0, {LANES})",
          f"{i3}for lane in range(width):", *(i4 + s for s in _write("totals", wide, "lane", _start(op, dtype, wide))),
          f"{i3}for i in range(0, r, {BLOCK}):", f"{i4}rounds = min(r - i, {BLOCK})",
          *_rounds(op, dtype, inputs, running, element, x, sr, sb, i4, False),
          *_flush(running, wide, i4, "width"),
          f"{i3}for lane in range(width):", f"{i4}total = {_read('totals', wide, 'lane')}", *finish("j0 + lane", i4)]
    if any(d in FLOATING for d in (*inputs, *outputs)):
        c.append("    clear_status()")
    names = ["(r,b)"] * len(inputs) + ["(b)"] * len(extras) + (["()"] if merge else [])
    return Program(f"{op.name}_{form}_{dtype}", "\n".join(c) + "\n",
                   functions={"lift": (op.lift, dtype if dtype != "bool" else "int64"),
                              "combine": (op.combine, None), "finish": (op.finish, wide[0])},
                   inputs=(*inputs, *extras, *(("int64",) if merge else ())), outputs=outputs,
                   signature=",".join(names) + "->" + ",".join(["(b)"] * len(outputs)), work=op.work)


def _rounds(op, dtype, inputs, running, element, x, sr, sb, indent, along) -> list[str]:
    """The hot loops: `rounds` passes over the lanes, with a branch for unit stride that vectorises with plain loads."""
    inner = indent + "        "
    width = str(LANES) if along else "width"
    out = [f"{indent}for lane in range({width}):",
           *(indent + "    " + s for s in _write("lanes", running, "lane", _start(op, dtype, running)))]
    size = ITEMSIZE[inputs[0]]
    lane_state = _read("lanes", running, "lane")
    lane_step = sr[0] if along else sb[0]
    branches = [(f"if {lane_step} == {size}:", str(size)), ("else:", None)] if len(inputs) == 1 else [("if True:", None)]
    for test, unit in branches:
        out += [indent + test, f"{indent}    for q in range(rounds):"]
        offsets = []
        for k in range(len(inputs)):
            step = unit if unit is not None else (sr[k] if along else sb[k])
            origin = (f"{x[k]} + (i + q * {LANES}) * {sr[k]} + j * {sb[k]}" if along
                      else f"{x[k]} + (i + q) * {sr[k]} + j0 * {sb[k]}")
            out.append(f"{inner}at{k} = {origin}")
            offsets.append(f"at{k} + lane * {step}")
        position = f"i + q * {LANES} + lane" if along else "i + q"
        value = element(offsets, position, "j" if along else "j0 + lane")
        out += [f"{inner}for lane in range({width}):",
                f"{inner}    acc = {_convert(running, f'combine({lane_state}, {value})')}",
                *(inner + "    " + s for s in _write("lanes", running, "lane", "acc"))]
    return out


def _flush(running, wide, indent, width: str = str(LANES)) -> list[str]:
    combined = _convert(wide, f"combine({_read('totals', wide, 'lane')}, {_convert(wide, _read('lanes', running, 'lane'))})")
    return [f"{indent}for lane in range({width}):", f"{indent}    merged = {combined}",
            *(indent + "    " + s for s in _write("totals", wide, "lane", "merged"))]


# --- scans ------------------------------------------------------------------------------------------------------------

def scan_program(op: Fold, dtype: str) -> Program:
    """Running fold along r of (r, b): every state is finished and written; states run in the wide dtype."""
    _, wide = _states(op, dtype)
    result = op.result(dtype)
    outputs = result if isinstance(result, tuple) else (result,)
    nout = len(outputs)
    at = 1 + nout
    c = ["def kernel(args, dimensions, steps, data):", "    n, r, b = dimensions[0], dimensions[1], dimensions[2]",
         f"    totals = stack({sum(LANES * ITEMSIZE[d] for d in wide)})", "    for outer in range(n):",
         "        x0 = outer * steps[0]", *(f"        y{k} = outer * steps[{1 + k}]" for k in range(nout)),
         f"        for j0 in range(0, b, {LANES}):", f"            width = min(b - j0, {LANES})",
         "            for lane in range(width):",
         *("                " + s for s in _write("totals", wide, "lane", _start(op, dtype, wide))),
         "            for i in range(r):", "                for lane in range(width):",
         f"                    element = lift({loaded(dtype, 'args[0]', f'x0 + i * steps[{at}] + (j0 + lane) * steps[{at + 1}]')}, i)",
         f"                    total = {_convert(wide, 'combine(' + _read('totals', wide, 'lane') + ', ' + _convert(wide, 'element') + ')')}",
         *("                    " + s for s in _write("totals", wide, "lane", "total")),
         "                    result = finish(total, r)"]
    for k, d in enumerate(outputs):
        column = at + 2 + 2 * k
        c.append("                    " + stored(d, f"args[{1 + k}]", f"y{k} + i * steps[{column}] + (j0 + lane) * steps[{column + 1}]",
                                                 f"result[{k}]" if nout > 1 else "result"))
    if dtype in FLOATING:
        c.append("    clear_status()")
    return Program(f"{op.name}_scan_{dtype}", "\n".join(c) + "\n",
                   functions={"lift": (op.lift, dtype if dtype != "bool" else "int64"),
                              "combine": (op.combine, None), "finish": (op.finish, wide[0])},
                   inputs=(dtype,), outputs=outputs, signature="(r,b)->" + ",".join(["(r,b)"] * nout), work=op.work)


# --- running ----------------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def fold_ufunc(op: Fold, dtype: str, form: str) -> np.ufunc:
    """The loaded kernel of a fold or scan in one dtype."""
    return make_ufunc(scan_program(op, dtype) if form == "scan" else fold_program(op, dtype, form))


def run(op: Fold, x: np.ndarray, dims: tuple[int, ...] | None = None, keepdim: bool = False, extra: tuple = ()):
    """Fold an array over `dims` (None: all). Returns an array, or a tuple for several results.

    Dimensions are put in the order (kept..., folded, kept) that lets the template run along memory; positions (for
    argmax) count the folded dimensions in row-major order, so at most one dimension or all of them may be folded there.
    `extra` operands have the shape of the result with the folded dimensions kept.
    """
    n = x.ndim
    folded = tuple(range(n)) if dims is None else dims
    kept = [d for d in range(n) if d not in folded]
    count = math.prod(x.shape[d] for d in folded)
    shape = tuple(1 if d in folded else x.shape[d] for d in range(n)) if keepdim else tuple(x.shape[d] for d in kept)
    dtype = x.dtype.name
    if count and not kept and x.size >= 2 * PART and not extra:
        return _in_parts(op, x, shape, dtype)
    if len(kept) == 0:
        core, out_shape = (x if n == 1 else x.reshape(-1) if n else x.reshape(1)).reshape(-1, 1), (1,)
    elif len(folded) == 1 or _mergeable(x, folded):
        # one run of folded dimensions: everything after it is free and contiguous with it where memory allows
        first, last = folded[0], folded[-1]
        lead, tail = x.shape[:first], x.shape[last + 1:]
        core = x.reshape(*lead, count, math.prod(tail))
        out_shape = (*lead, math.prod(tail))
    else:
        core = x.transpose(*kept, *folded)
        core = core.reshape(*core.shape[:len(kept)], count, 1)
        out_shape = (*core.shape[:len(kept)], 1)
    ufunc = fold_ufunc(op, dtype, "whole")
    if x.size >= pool.GRAIN:
        pool.ensure()
    more = [np.broadcast_to(e, tuple(1 if d in folded else x.shape[d] for d in range(n))).reshape(out_shape) for e in extra]
    results = ufunc(core, *more)
    if isinstance(results, tuple):
        return tuple(v.reshape(shape) for v in results)
    return results.reshape(shape)


def _mergeable(x: np.ndarray, folded: tuple[int, ...]) -> bool:
    """Consecutive dimensions whose elements lie one stride apart."""
    return all(b == a + 1 for a, b in zip(folded, folded[1:], strict=False)) and x.flags.c_contiguous


def _in_parts(op: Fold, x: np.ndarray, shape, dtype: str):
    """Fold all of a large array: parts of a fixed size on several threads, then the parts in order."""
    pool.ensure()
    flat = x.reshape(-1)
    whole = flat.size // PART
    part, merge = fold_ufunc(op, dtype, "part"), fold_ufunc(op, dtype, "merge")
    if op.positions:
        starts = np.arange(0, flat.size, PART)
    pieces = part(flat[:whole * PART].reshape(whole, PART, 1))
    pieces = pieces if isinstance(pieces, tuple) else (pieces,)
    if flat.size % PART:
        rest = part(flat[whole * PART:].reshape(1, -1, 1))
        rest = rest if isinstance(rest, tuple) else (rest,)
        pieces = tuple(np.concatenate([a, b]) for a, b in zip(pieces, rest, strict=True))
    if op.positions:        # the last component of such a state is a position within its part
        pieces[-1][:, 0] += starts
    results = merge(*pieces, np.int64(flat.size))
    if isinstance(results, tuple):
        return tuple(v.reshape(shape) for v in results)
    return results.reshape(shape)
