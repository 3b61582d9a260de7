"""Dropout: one kernel draws, scales and keeps a mask for the gradient.

Which element uses which random word is said in `kernels.philox` (four 32-bit words a block, as for bernoulli); the seed and the
number of the first block come as an operand from `engine.nn.functional.dropout`.
"""
from __future__ import annotations

import functools

import numpy as np

from ..book import BOOK, FLOATS, pointwise, structural
from ..cpu import buffers, fills
from ..cpu.maps import ITEMSIZE, loaded, stored
from ..cpu.native import Program, make_ufunc


@pointwise(dtypes=FLOATS, operands=("bool", "T", "T"), numbers=("scale",), function=False, method=False, node="MulBackward0",
           partials=lambda mask, x, scale, out: (None, BOOK["where"](mask, scale, 0), None),
           like=lambda mask, x, scale: x * np.where(mask, scale, 0), tol=1)
def masked_scale(mask, x, scale):
    """x times a number where the mask is set, times zero elsewhere."""
    return x * scale if mask else x * 0


@functools.cache
def _ufunc(dtype: str) -> np.ufunc:
    """Inputs: address of the result, key, first block, threshold for 32-bit words, scale, x. Results: scaled x, mask."""
    from .. import philox
    from ..cpu.randoms import elements_per_block
    compute, size, per = "float64" if dtype == "float64" else "float32", ITEMSIZE[dtype], elements_per_block("bernoulli", dtype)

    def put(k: str, at: str) -> str:
        value = f"{loaded(dtype, 'args[5]', f'({at}) * steps[5]')} * (scale if {k} < below else as_{compute}(0))"
        return f"{stored(dtype, 'q', f'({at}) * {size}', value)}; {stored('bool', 'args[7]', f'({at}) * steps[7]', f'{k} < below')}"
    whole = "\n".join(f"        {put(f'w{k}', f'e + {k}')}" for k in range(per))
    one = "\n".join(f"        if at == {k}:\n            {put(f'w{k}', 'e')}" for k in range(per))
    words = ", ".join(f"w{k}" for k in range(per))
    source = f"""
@inline
def block(counter, key):
    mask, half = as_uint64(0xFFFFFFFF), as_uint64(32)
    return philox(counter & mask, counter >> half, as_uint64(0), as_uint64(0), key & mask, key >> half)

def kernel(args, dimensions, steps, data):
    q, n = args[6], dimensions[0]
    first = {fills.index_of_first("q", size)}
    key, start, below = load_uint64(args[1], 0), load_uint64(args[2], 0), load_uint64(args[3], 0)
    scale = load_{compute}(args[4], 0)
    head = min(n, (-first) % {per})
    blocks = (n - head) // {per}
    begin = start + as_uint64((first + head) // {per})
    for j in range(blocks):
        e = head + j * {per}
        {words} = block(begin + as_uint64(j), key)
{whole}
    for j in range(n - blocks * {per}):         # elements before the first whole block and after the last
        e = j if j < head else j + blocks * {per}
        {words} = block(start + as_uint64((first + e) // {per}), key)
        at = (first + e) % {per}
{one}
    clear_status()
"""
    return make_ufunc(Program(f"dropout_{dtype}", source, functions={"philox": (philox.philox4x32, "uint64")}, work=8,
                              inputs=("int64", "uint64", "uint64", "uint64", compute, dtype), outputs=(dtype, "bool")))


@structural(["x", "words"], dtypes=FLOATS, function=False, method=False, node="MulBackward0", nondiff=(1,),
            adjoint=lambda gs, out1, scale: (BOOK["masked_scale"](out1, gs[0], scale), None),
            source="Srivastava et al., Dropout (2014)")
def dropout(x, words, below, scale):
    """(x * scale where a random 32-bit word lies below `below`, else x * 0; where that is so). `words`: key and number of the first
    block, see philox.
    """
    from ..cpu import pool
    from ..cpu.gathers import aligned, as_contiguous
    x = as_contiguous(aligned(x))
    out, mask = buffers.empty(x.shape, x.dtype), buffers.empty(x.shape, np.dtype(bool))
    if x.size:
        if x.size >= pool.GRAIN // 8:
            pool.ensure()
        flat = out.reshape(-1)
        below = np.array(below, np.uint64)
        _ufunc(x.dtype.name)(fills.base_of(flat), words[0], words[1], below, scale, x.reshape(-1), flat, mask.reshape(-1))
    return out, mask
