"""Sorting kernels: keys of two widths, a stable radix sort of (key, index), selection of the largest, binary search, runs
of equals.

Every dtype is turned into an unsigned key whose order is the dtype's, with NaN last, -0.0 equal to 0.0, and the bits flipped
for descending order; then two kernels (32 and 64 bits) sort all dtypes. Values are read through the sorted indices
afterwards, so they come out bit for bit. Kernels allocate nothing: scratch memory is an output of theirs. Called by
`kernels.ops.sorting`. Source: radix sort, least significant digit first, Knuth TAOCP 3, 5.2.5; short lists by insertion, 5.2.1.
"""
from __future__ import annotations

import functools

import numpy as np

from . import buffers, pool
from .native import Program, make_ufunc

NARROW = ("bool", "uint8", "int8", "int16", "int32", "uint16", "uint32", "float16", "float32")
INT64 = np.dtype(np.int64)
SHORT = 48          # length up to which insertion is faster than counting digits

_KEY = """
def kernel(args, dimensions, steps, data):
    flip = load_BITS(args[1], 0)
    for k in range(dimensions[0]):
        store_BITS(args[2], k * steps[2], as_BITS(key(load_DTYPE(args[0], k * steps[0])) ^ flip))
"""

# A float's bits ordered as unsigned integers: negative ones reversed, positive ones above them; -0.0 is 0.0, NaN is largest.
_FLOAT_KEY = """
@inline
def key(bits):
    bits = as_BITS(bits)
    top = as_BITS(TOP)
    magnitude = as_BITS(bits & as_BITS(TOP - 1))
    if magnitude > as_BITS(INFINITY):
        return as_BITS(FULL)
    if magnitude == as_BITS(0):
        return top
    return as_BITS(bits ^ as_BITS(ONES)) if bits & top else as_BITS(bits | top)
"""

_INT_KEY = """
@inline
def key(value):
    return as_BITS(as_BITS(value) ^ as_BITS(TOP))
"""


def key_source(dtype: str) -> tuple[str, str, str]:
    """(source of `key`, dtype that an element is read as, dtype of its key): what kernels of every device call."""
    bits = "uint32" if dtype in NARROW else "uint64"
    width = 32 if bits == "uint32" else 64
    floats = {"float16": ("uint16", 16, 0x7C00), "float32": ("uint32", 32, 0x7F800000),
              "float64": ("uint64", 64, 0x7FF0000000000000)}
    if dtype in floats:
        stored, own, infinity = floats[dtype]
        function = _FLOAT_KEY.replace("ONES", str((1 << own) - 1)).replace("INFINITY", str(infinity)).replace(
            "FULL", str((1 << width) - 1))
        top = 1 << (own - 1)
    else:
        stored, function = dtype, _INT_KEY
        top = 1 << (width - 1) if dtype.startswith("int") else 0
    return function.replace("TOP - 1", str(top - 1)).replace("TOP", str(top)).replace("BITS", bits), stored, bits


def key_program(dtype: str) -> Program:
    """Elements and a word to flip bits with -> keys of 32 or 64 bits."""
    function, stored, bits = key_source(dtype)
    source = function + _KEY.replace("load_DTYPE", f"load_{stored}").replace("BITS", bits)
    return Program(f"sort_key_{dtype}", source, inputs=(stored, bits), outputs=(bits,))


# Sort each row of keys (n) with their indices; k1, i1 end sorted, k2, i2 are scratch.
_SORT = """
def kernel(args, dimensions, steps, data):
    rows, n = dimensions[0], dimensions[1]
    counts = address(stack(2048))
    for row in range(rows):
        keys = pointer(address(args[0]) + row * steps[0])
        ka = pointer(address(args[1]) + row * steps[1])
        ia = pointer(address(args[2]) + row * steps[2])
        kb = pointer(address(args[3]) + row * steps[3])
        ib = pointer(address(args[4]) + row * steps[4])
        if n <= SHORT:
            for j in range(n):
                v = load_BITS(keys, j * steps[5])
                at = j
                while at > 0 and peek_BITS(ka, (at - 1) * SIZE) > v:
                    store_BITS(ka, at * SIZE, peek_BITS(ka, (at - 1) * SIZE))
                    store_int64(ia, at * 8, peek_int64(ia, (at - 1) * 8))
                    at -= 1
                store_BITS(ka, at * SIZE, v)
                store_int64(ia, at * 8, j)
        else:
            different = as_BITS(0)          # the bits in which keys differ: other digits need no pass
            first = load_BITS(keys, 0)
            for j in range(n):
                v = load_BITS(keys, j * steps[5])
                different |= v ^ first
                store_BITS(ka, j * SIZE, v)
                store_int64(ia, j * 8, j)
            done = 0
            for shift in range(0, 8 * SIZE, 8):
                if (different >> as_BITS(shift)) & as_BITS(255) != as_BITS(0):
                    for d in range(256):
                        set_word(counts, d, 0)
                    for j in range(n):
                        d = as_int64((peek_BITS(ka, j * SIZE) >> as_BITS(shift)) & as_BITS(255))
                        set_word(counts, d, word(counts, d) + 1)
                    total = 0
                    for d in range(256):
                        here = word(counts, d)
                        set_word(counts, d, total)
                        total += here
                    for j in range(n):
                        v = peek_BITS(ka, j * SIZE)
                        d = as_int64((v >> as_BITS(shift)) & as_BITS(255))
                        at = word(counts, d)
                        set_word(counts, d, at + 1)
                        store_BITS(kb, at * SIZE, v)
                        store_int64(ib, at * 8, peek_int64(ia, j * 8))
                    ka, kb = kb, ka
                    ia, ib = ib, ia
                    done += 1
            if done % 2 == 1:
                for j in range(n):
                    store_BITS(kb, j * SIZE, peek_BITS(ka, j * SIZE))
                    store_int64(ib, j * 8, peek_int64(ia, j * 8))
"""

# The k smallest keys of each row in order, by insertion into a list of k; of equal keys the first.
_SELECT = """
def kernel(args, dimensions, steps, data):
    rows, n, k = dimensions[0], dimensions[1], dimensions[2]
    for row in range(rows):
        keys = pointer(address(args[0]) + row * steps[0])
        best = pointer(address(args[1]) + row * steps[1])
        index = pointer(address(args[2]) + row * steps[2])
        held = 0
        bound = as_BITS(0)
        for j in range(n):
            v = load_BITS(keys, j * steps[3])
            if held < k or v < bound:
                at = held if held < k else k - 1
                while at > 0 and peek_BITS(best, (at - 1) * SIZE) > v:
                    store_BITS(best, at * SIZE, peek_BITS(best, (at - 1) * SIZE))
                    store_int64(index, at * 8, peek_int64(index, (at - 1) * 8))
                    at -= 1
                store_BITS(best, at * SIZE, v)
                store_int64(index, at * 8, j)
                held = min(held + 1, k)
                bound = peek_BITS(best, (held - 1) * SIZE)
"""

# Where each value would go in a sorted row of keys: how many are smaller (or smaller and equal, from the right).
_SEARCH = """
def kernel(args, dimensions, steps, data):
    rows, n, b = dimensions[0], dimensions[1], dimensions[2]
    for row in range(rows):
        keys = pointer(address(args[0]) + row * steps[0])
        values = pointer(address(args[1]) + row * steps[1])
        out = pointer(address(args[3]) + row * steps[3])
        right = load_int64(args[2], row * steps[2]) != 0
        for j in range(b):
            v = load_BITS(values, j * steps[5])
            low, high = 0, n
            while low < high:
                middle = (low + high) // 2
                seen = load_BITS(keys, middle * steps[4])
                if seen < v or (right and seen == v):
                    low = middle + 1
                else:
                    high = middle
            store_int64(out, j * steps[6], low)
"""

_MEMBER = """
def kernel(args, dimensions, steps, data):
    rows, n, b = dimensions[0], dimensions[1], dimensions[2]
    for row in range(rows):
        keys = pointer(address(args[0]) + row * steps[0])
        values = pointer(address(args[1]) + row * steps[1])
        out = pointer(address(args[3]) + row * steps[3])
        wanted = load_int64(args[2], row * steps[2]) != 0
        for j in range(b):
            v = load_BITS(values, j * steps[5])
            low, high = 0, n
            while low < high:
                middle = (low + high) // 2
                if load_BITS(keys, middle * steps[4]) < v:
                    low = middle + 1
                else:
                    high = middle
            found = low < n and load_BITS(keys, min(low, n - 1) * steps[4]) == v
            store_bool(out, j * steps[6], as_uint8(1 if found == wanted else 0))
"""

# Rows (m, d) in the order (m): the number of the run of equal rows that each belongs to. Where `apart`, keys all ones (NaN)
# equal nothing.
_RUNS = """
def kernel(args, dimensions, steps, data):
    m, d = dimensions[1], dimensions[2]
    apart = load_int64(args[2], 0) != 0
    run = -1
    before = 0
    for j in range(m):
        here = load_int64(args[1], j * steps[6]) * steps[4]
        same = j > 0
        for k in range(d):
            v = load_BITS(args[0], here + k * steps[5])
            if not same:
                break
            if load_BITS(args[0], before + k * steps[5]) != v or (apart and v == as_BITS(ONES)):
                same = False
        if not same:
            run += 1
        store_int64(args[3], j * steps[7], run)
        before = here
"""


def _of_width(name: str, source: str, bits: str, inputs, outputs, signature: str) -> np.ufunc:
    size = 4 if bits == "uint32" else 8
    source = source.replace("ONES", str((1 << 8 * size) - 1)).replace("BITS", bits).replace("SIZE", str(size)).replace(
        "SHORT", str(SHORT))
    return make_ufunc(Program(f"{name}_{bits}", source, inputs=inputs, outputs=outputs, signature=signature))


@functools.cache
def key_plan(dtype: np.dtype) -> tuple[np.ufunc, np.dtype, np.ndarray, np.ndarray, np.dtype]:
    """How to make keys of a dtype: kernel, dtype of the keys, bits to flip for ascending and for descending order, what the
    kernel reads elements as."""
    bits = np.dtype(np.uint32 if dtype.name in NARROW else np.uint64)
    seen = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "f" else dtype
    return make_ufunc(key_program(dtype.name)), bits, np.zeros((), bits), np.array(np.iinfo(bits).max, bits), seen


@functools.cache
def key_kernel(name: str, dtype: np.dtype) -> np.ufunc:
    """The kernels over keys of a dtype: sort, select, search, member, runs."""
    bits = dtype.name
    source, inputs, outputs, signature = {
        "sort": (_SORT, (bits,), (bits, "int64", bits, "int64"), "(n)->(n),(n),(n),(n)"),
        "select": (_SELECT, (bits,), (bits, "int64"), "(n)->(k),(k)"),
        "search": (_SEARCH, (bits, bits, "int64"), ("int64",), "(n),(b),()->(b)"),
        "member": (_MEMBER, (bits, bits, "int64"), ("bool",), "(n),(b),()->(b)"),
        "runs": (_RUNS, (bits, "int64", "int64"), ("int64",), "(m,d),(m),()->(m)"),
    }[name]
    return _of_width(f"keys_{name}", source, bits, inputs, outputs, signature)


def keys_of(x: np.ndarray, descending: bool = False) -> np.ndarray:
    """Unsigned keys in the order of the elements (reversed where `descending`), contiguous, of the array's shape."""
    ufunc, bits, ascending, flipped, seen = key_plan(x.dtype)
    if seen is not x.dtype:
        x = x.view(seen)
    if x.size >= pool.GRAIN:
        pool.ensure()
    return ufunc(x, flipped if descending else ascending, buffers.empty(x.shape, bits))


def sort_rows(keys: np.ndarray) -> np.ndarray:
    """Indices (..., n) that put each row of keys in order; equal keys keep theirs. The keys are contiguous."""
    if not keys.size:
        return np.empty(keys.shape, np.int64)
    if keys.size >= pool.GRAIN:
        pool.ensure()
    outs = [buffers.empty(keys.shape, d) for d in (keys.dtype, INT64, keys.dtype, INT64)]
    return key_kernel("sort", keys.dtype)(keys, *outs)[1]


def select_rows(keys: np.ndarray, k: int) -> np.ndarray:
    """Indices (..., k) of the k smallest keys of each row, in order; k <= n, best for small k."""
    shape = (*keys.shape[:-1], k)
    if keys.size >= pool.GRAIN:
        pool.ensure()
    best, index = np.empty(shape, keys.dtype), np.empty(shape, np.int64)
    if index.size:
        key_kernel("select", keys.dtype)(keys, best, index)
    return index


def search(keys: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
    """Positions (..., m) at which values (..., m) would enter sorted rows of keys (..., n)."""
    if values.size >= pool.GRAIN:
        pool.ensure()
    return key_kernel("search", keys.dtype)(keys, values, int(right))


def member(keys: np.ndarray, values: np.ndarray, wanted: bool) -> np.ndarray:
    """Whether each value is among the sorted keys (n), or is not."""
    if values.size >= pool.GRAIN:
        pool.ensure()
    return key_kernel("member", keys.dtype)(keys, values, int(wanted))


def runs(keys: np.ndarray, order: np.ndarray, apart: bool) -> np.ndarray:
    """Rows of keys (m, d), read in an order (m): number of the run of equal rows for each; `apart`: NaN equals nothing."""
    return key_kernel("runs", keys.dtype)(keys, order, int(apart))
