"""Tables of launches: compiled code calls one kernel after another by itself, with no Python between them.

A launch is five words (loop, data, dimensions, steps, number of operands), then two words an operand: a slot, which says where
its memory begins, and an offset from there. A table is the number of launches, the number of guards, the launches, then each
guard: slot, offset, number of bytes, and the bytes that must be found there. Slot 0 is nothing, its offsets are addresses.
Made by `engine.compiler.native`; walked by the solvers (`kernels.solvers.machine`) and by the loop made here.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from .native import Program, link, make_loop

# `base(s, slot)`, the address where a slot's memory begins, is whoever's who walks; 0 where a guard sees something else.
LAUNCH = """
@inline
def launch(s, variant, args):
    p = variant + 16
    for k in range(word(variant, 0)):
        count = word(p, 4)
        for j in range(count):
            set_word(args, j, base(s, word(p, 5 + 2 * j)) + word(p, 6 + 2 * j))
        call_loop(word(p, 0), args, word(p, 2), word(p, 3), word(p, 1))
        p += 8 * (5 + 2 * count)
    for k in range(word(variant, 1)):
        found, seen = base(s, word(p, 0)) + word(p, 1), p + 24
        for j in range(word(p, 2)):
            if peek_uint8(pointer(found), j) != peek_uint8(pointer(seen), j):
                return 0
        p += 8 * (3 + (word(p, 2) + 7) // 8)
    return 1
"""

_WALK = """
@inline
def base(s, slot):
    return word(s, slot - 1) if slot > 0 else 0
""" + LAUNCH + """
def kernel(args, dimensions, steps, data):
    launch(address(args), address(data), address(stack(512)))
"""


@functools.cache
def _walk() -> int:
    return link(Program("launches", _WALK))


def walker(name: str, words: np.ndarray, operands: Sequence[np.ndarray]) -> np.ufunc:
    """A gufunc of operands like these (the last one is its result in name only) that runs the launches of a table.

    Slot k is the k-th operand, the first one being 1. `words` must live as long as the gufunc.
    """
    cores = [f"({','.join(map(str, a.shape))})" for a in operands]
    program = Program(name, "", inputs=tuple(a.dtype.name for a in operands[:-1]), outputs=(operands[-1].dtype.name,),
                      signature=f"{','.join(cores[:-1])}->{cores[-1]}")
    return make_loop(program, _walk(), words.ctypes.data)
