"""A loop that copies a strided array into dense memory, for results of an objective that lie otherwise than a solver reads them.

`data` points to element size, number of dimensions, sizes and strides in bytes. Called from tables of launches.
"""
from __future__ import annotations

import functools

from ..cpu.native import Program, link

_SOURCE = """
def kernel(args, dimensions, steps, data):
    about, source, target = address(data), address(args[0]), address(args[1])
    size, ndim = word(about, 0), word(about, 1)
    total = 1
    for d in range(ndim):
        total *= word(about, 2 + d)
    for i in range(total):
        rest, p = i, source
        for back in range(ndim):
            d = ndim - 1 - back
            n = word(about, 2 + d)
            p += rest % n * word(about, 2 + ndim + d)
            rest //= n
        for b in range(size):
            store_uint8(pointer(target), i * size + b, peek_uint8(pointer(p), b))
"""


@functools.cache
def copy_loop() -> int:
    """The loop's address."""
    return link(Program("copy_strided", _SOURCE, inputs=("uint8",), outputs=("uint8",)))
