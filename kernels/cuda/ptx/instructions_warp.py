"""Instructions of a whole warp: shuffles, votes, matches, reductions; and barriers that reduce.

The machine calls them only when all lanes of the member mask are there (machine._meet); `mask_of` says which operand that
is. A shuffle from a lane that does not take part is an error: its value would be undefined.
"""
from __future__ import annotations

import numpy as np

from .errors import WarpError
from .operands import DTYPES, Step, instruction

# opcode -> position of the member mask among the operands, from the end
_MASKS = {"shfl": 4, "vote": 2, "match": 2, "redux": 2, "elect": 1}


def mask_of(step: Step):
    """Reader of the member mask, for instructions that wait for lanes; None for others."""
    if step.opcode in ("bar", "barrier") and "warp" in step.modifiers:
        return step.read(0, "u32")
    if step.opcode not in _MASKS or "sync" not in step.modifiers:
        return None
    return step.read(_MASKS[step.opcode], "u32")


def _numbers(m, threads):
    return m.number if threads is None else threads


@instruction("shfl")
def shuffle(step: Step):
    """A value from another lane of the warp, or the own one where that lane is out of range."""
    if "sync" not in step.modifiers:
        raise step.refuse("shuffles without .sync do not exist on the targets of today")
    mode = step.has("up", "down", "bfly", "idx")
    write, write_valid = step.pair()
    value, distance, clamp = (step.read(k, "u32") for k in (1, 2, 3))

    def run(m, threads):
        here = _numbers(m, threads)
        n = len(here)
        lane = m.lane[here]
        b = distance(m, threads).astype(np.int64) & 31
        c = clamp(m, threads).astype(np.int64)
        segment, bound = (c >> 8) & 31, c & 31
        most = (lane & segment) | (bound & ~segment)
        if mode == "up":
            source = lane - b
            valid = source >= most
        else:
            source = lane + b if mode == "down" else lane ^ b if mode == "bfly" else (lane & segment) | (b & ~segment)
            valid = source <= most
        source = np.where(valid, source, lane)
        origin = here + (source - lane)
        if threads is None:
            absent = (origin >= m.threads) | (m.warp[np.minimum(origin, m.threads - 1)] != m.warp)
        else:
            present = np.zeros(m.threads + 32, bool)
            present[here] = True
            absent = ~present[origin] | (m.warp[np.minimum(origin, m.threads - 1)] != m.warp[here])
        if absent.any():
            k = int(np.flatnonzero(absent)[0])
            m.fault(WarpError, f"shuffle from lane {int(source[k])}, which takes no part: its value is undefined", int(here[k]))
        full = np.empty(m.threads, np.uint32)
        full[here] = np.broadcast_to(value(m, threads), n)
        write(m, threads, full[origin])
        if write_valid is not None:
            write_valid(m, threads, valid)
    return run


def _ballot(m, here, chosen) -> np.ndarray:
    """uint32 for each thread: the lanes of its warp that are chosen."""
    bits = np.bincount(m.warp[here], weights=np.where(chosen, 2.0 ** m.lane[here], 0.0), minlength=m.warps)
    return bits.astype(np.uint32)[m.warp[here]]


@instruction("vote")
def vote(step: Step):
    """Whether a predicate holds for any or all lanes, or is the same for all; or the lanes where it holds."""
    mode = step.has("any", "all", "uni", "ballot")
    predicate, write = step.read(1, "pred"), step.write()

    def run(m, threads):
        here = _numbers(m, threads)
        truth = np.broadcast_to(predicate(m, threads), len(here))
        yes = _ballot(m, here, truth)
        if mode == "ballot":
            write(m, threads, yes)
            return
        no = _ballot(m, here, ~truth)
        write(m, threads, yes != 0 if mode == "any" else no == 0 if mode == "all" else (yes == 0) | (no == 0))
    return run


@instruction("match")
def match(step: Step):
    """The lanes with the same value (any), or all lanes when all values agree, and whether they do (all)."""
    every = step.has("all")
    value = step.read(1)
    write, write_agree = step.pair()

    def run(m, threads):
        here = _numbers(m, threads)
        v, warp = np.broadcast_to(value(m, threads), len(here)), m.warp[here]
        _, group = np.unique(np.stack([warp.astype(np.uint64), v.astype(np.uint64)]), axis=1, return_inverse=True)
        group = group.reshape(-1)
        lanes = np.bincount(group, weights=2.0 ** m.lane[here]).astype(np.uint32)[group]
        if every:
            agree = lanes == _ballot(m, here, np.ones(len(here), bool))
            agree = np.bincount(warp, weights=agree, minlength=m.warps)[warp] == np.bincount(warp, minlength=m.warps)[warp]
            lanes = np.where(agree, lanes, np.uint32(0))
            if write_agree is not None:
                write_agree(m, threads, agree)
        write(m, threads, lanes)
    return run


@instruction("redux")
def reduction(step: Step):
    """The sum, smallest, largest, or bitwise and, or, xor over the lanes."""
    function = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
                "xor": np.bitwise_xor}[step.has("add", "min", "max", "and", "or", "xor")]
    if DTYPES[step.kind].kind == "f":
        raise step.refuse("reduction of floating point numbers")
    value, write = step.read(1), step.write()

    def run(m, threads):
        here = _numbers(m, threads)
        warp = m.warp[here]
        starts = np.flatnonzero(np.diff(warp, prepend=-1))
        totals = function.reduceat(np.broadcast_to(value(m, threads), len(here)), starts)
        write(m, threads, np.repeat(totals, np.diff(starts, append=len(here))))
    return run


@instruction("elect")
def elected(step: Step):
    """The first lane of those here, and whether it is this one."""
    write, write_chosen = step.pair()

    def run(m, threads):
        here = _numbers(m, threads)
        warp = m.warp[here]
        first = np.diff(warp, prepend=-1) != 0
        write(m, threads, m.lane[here][first][np.cumsum(first) - 1].astype(np.uint32))
        if write_chosen is not None:
            write_chosen(m, threads, first)
    return run


@instruction("activemask")
def active(step: Step):
    """The lanes that run together now."""
    write = step.write()

    def run(m, threads):
        here = _numbers(m, threads)
        write(m, threads, _ballot(m, here, np.ones(len(here), bool)))
    return run


@instruction("bar", "barrier")
def warp_barrier(step: Step):
    """bar.warp.sync: orders the accesses of its lanes."""
    def run(m, threads):
        m.stamp = m.stamp.copy()
        m.stamp[slice(None) if threads is None else threads] += 1
    return run


def barrier_reduction(step: Step):
    """bar.red: a vote of the block at its barrier; function of (machine, threads that pass it)."""
    how = step.has("popc", "and", "or")
    write = step.write()
    predicate = step.read(len(step.arguments) - 1, "pred")

    def run(m, threads):
        block = m.block[threads]
        truth = np.broadcast_to(predicate(m, threads), len(threads))
        yes = np.bincount(block, weights=truth, minlength=m.blocks)[block]
        total = np.bincount(block, minlength=m.blocks)[block]
        write(m, threads, yes.astype(np.uint32) if how == "popc" else yes == total if how == "and" else yes > 0)
    return run
