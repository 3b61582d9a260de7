"""Register tiles: innermost loops written as vector instructions, which LLVM does not find by itself in scalar source.

`multiply_tile_<dtype>` adds weights times rows of an image, `dot_tile_<dtype>` rows of one image times rows of another
(`kernels.cpu.convolution`), `product_tile_<dtype>` rows of a matrix times another one (`kernels.cpu.panels`); all keep
a block of sums in vector registers over the whole loop. `turn_square_<dtype>` transposes a small square
in registers (`kernels.cpu.sheets`). They are Numba intrinsics that kernel source calls; imported only when something is compiled.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I64 = ir.IntType(8), ir.IntType(64)
ELEMENT = {"float32": ir.FloatType(), "float64": ir.DoubleType(), "int64": I64}
BITS = {"float32": ir.IntType(32), "float64": I64, "int64": I64}


def _literals(*given) -> bool:
    return all(isinstance(g, types.IntegerLiteral) for g in given)


def _at(builder, base, offset, kind):
    """A typed pointer `offset` bytes behind an integer address (a byte pointer first: LLVM then folds the sum into the access)."""
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def _bytes(builder, address):
    return builder.inttoptr(address, I8.as_pointer())


def _fetch(builder, base, offset, kind, size: int):
    value = builder.load(_at(builder, base, offset, kind))
    value.align = size
    return value


def _put(builder, value, base, offset, size: int) -> None:
    builder.store(value, _at(builder, base, offset, value.type)).align = size


def _multiply_add(builder, a, b, c):
    """a * b + c, rounded once where the machine can."""
    if isinstance(a.type.element, ir.IntType):
        return builder.add(builder.mul(a, b), c)
    letter = "f32" if isinstance(a.type.element, ir.FloatType) else "f64"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{a.type.count}{letter}"), [a, b, c])


def _add(builder, a, b):
    return builder.add(a, b) if isinstance(a.type.element, ir.IntType) else builder.fadd(a, b)


def _splat(builder, value, lanes: int):
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, one, one, [0] * lanes)


def _shuffle(builder, a, b, places: list[int]):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _sums(builder, count: int, kind):
    """Sums in registers, all zero: variables that LLVM's first pass turns into values."""
    made = []
    with builder.goto_entry_block():
        for _ in range(count):
            made.append(builder.alloca(kind))
    for place in made:
        builder.store(ir.Constant(kind, None), place)
    return made


def _folded(builder, a, b, width: int):
    """Of vectors made of runs of `width` lanes, the lanes folded in half: first all runs of `a`, then those of `b`."""
    lanes, half = a.type.count, width // 2
    low = [start + k for start in range(0, 2 * lanes, width) for k in range(half)]
    return _add(builder, _shuffle(builder, a, b, low), _shuffle(builder, a, b, [k + half for k in low]))


def _totals(builder, vectors: list) -> list:
    """The sum of the lanes of each vector, pairwise; as many vectors at once as there are lanes."""
    lanes, found = vectors[0].type.count, []
    for start in range(0, len(vectors), lanes):
        group = vectors[start:start + lanes]
        wanted, width = len(group), lanes
        while width > 1:
            if len(group) % 2:
                group.append(group[-1])
            group = [_folded(builder, a, b, width) for a, b in zip(group[::2], group[1::2], strict=True)]
            width //= 2
            if len(group) == 1 and width > 1:       # nothing left to pair with: the vector with itself
                group = [group[0], group[0]]
        # Run k of the last vector came from vector k; pairing a vector with itself repeats the runs at the end.
        found += [builder.extract_element(group[0], ir.Constant(ir.IntType(32), k)) for k in range(wanted)]
    return found


def _make(dtype: str):
    element, size = ELEMENT[dtype], 4 if dtype == "float32" else 8

    @intrinsic
    def multiply_tile(typing, rows, vectors, lanes, weights, base, offsets, count, target):
        """target[r, v] = sum over k < count of weights[k, r] * (the v-th vector at base + offsets[k]); addresses are integers."""
        if not _literals(rows, vectors, lanes):
            return None
        m, n, width = rows.literal_value, vectors.literal_value, lanes.literal_value

        def emit(context, builder, signature, args):
            kind = ir.VectorType(element, width)
            table, source, places, out = (_bytes(builder, args[k]) for k in (3, 4, 5, 7))
            sums = _sums(builder, m * n, kind)
            with cgutils.for_range(builder, args[6], intp=I64) as loop:
                offset = _fetch(builder, places, builder.mul(loop.index, ir.Constant(I64, 8)), I64, 8)
                row = builder.gep(source, [offset])
                image = [_fetch(builder, row, ir.Constant(I64, v * width * size), kind, size) for v in range(n)]
                line = builder.gep(table, [builder.mul(loop.index, ir.Constant(I64, m * size))])
                for r in range(m):
                    weight = _splat(builder, _fetch(builder, line, ir.Constant(I64, r * size), element, size), width)
                    for v in range(n):
                        place = sums[r * n + v]
                        builder.store(_multiply_add(builder, weight, image[v], builder.load(place)), place)
            for k, place in enumerate(sums):
                _put(builder, builder.load(place), out, ir.Constant(I64, k * width * size), size)
            return context.get_dummy_value()
        return types.void(rows, vectors, lanes, *[types.intp] * 5), emit

    @intrinsic
    def dot_tile(typing, rows, columns, lanes, left, left_row, left_sample, right, offsets, right_sample, samples, steps, mask,
                 target):
        """target[r, c] += sum over samples and positions of left[r] * right[c], the right one where the mask is set.

        The c-th right row begins at right + offsets[c]; `steps` vectors of positions in each sample.
        """
        if not _literals(rows, columns, lanes):
            return None
        m, n, width = rows.literal_value, columns.literal_value, lanes.literal_value

        def emit(context, builder, signature, args):
            kind, bits = ir.VectorType(element, width), ir.VectorType(BITS[dtype], width)
            first, second, places, holes, out = (_bytes(builder, args[k]) for k in (3, 6, 7, 11, 12))
            sums = _sums(builder, m * n, kind)
            starts = [_fetch(builder, places, ir.Constant(I64, 8 * c), I64, 8) for c in range(n)]
            with cgutils.for_range(builder, args[9], intp=I64) as sample:
                here = builder.gep(first, [builder.mul(sample.index, args[5])])
                lines = [builder.gep(here, [builder.mul(args[4], ir.Constant(I64, r))]) for r in range(m)]
                there = builder.gep(second, [builder.mul(sample.index, args[8])])
                others = [builder.gep(there, [start]) for start in starts]
                with cgutils.for_range(builder, args[10], intp=I64) as loop:
                    at = builder.mul(loop.index, ir.Constant(I64, width * size))
                    hole = _fetch(builder, holes, at, bits, size)
                    image = []
                    for c in range(n):
                        seen = builder.and_(_fetch(builder, others[c], at, bits, size), hole)
                        image.append(seen if bits == kind else builder.bitcast(seen, kind))
                    for r in range(m):
                        value = _fetch(builder, lines[r], at, kind, size)
                        for c in range(n):
                            place = sums[r * n + c]
                            builder.store(_multiply_add(builder, value, image[c], builder.load(place)), place)
            for k, total in enumerate(_totals(builder, [builder.load(place) for place in sums])):
                at = ir.Constant(I64, k * size)
                old = _fetch(builder, out, at, element, size)
                _put(builder, builder.add(old, total) if isinstance(element, ir.IntType) else builder.fadd(old, total), out, at,
                     size)
            return context.get_dummy_value()
        return types.void(rows, columns, lanes, *[types.intp] * 10), emit

    @intrinsic
    def product_tile(typing, rows, vectors, lanes, x, x_row, x_step, y, y_step, count, z, z_row):
        """z[r, v] = sum over k < count of x[r, k] * (the v-th vector of y's row k); steps in bytes, addresses are integers."""
        if not _literals(rows, vectors, lanes):
            return None
        m, n, width = rows.literal_value, vectors.literal_value, lanes.literal_value

        def emit(context, builder, signature, args):
            kind = ir.VectorType(element, width)
            left, right, out = (_bytes(builder, args[k]) for k in (3, 6, 9))
            sums = _sums(builder, m * n, kind)
            lines = [builder.gep(left, [builder.mul(args[4], ir.Constant(I64, r))]) for r in range(m)]
            with cgutils.for_range(builder, args[8], intp=I64) as loop:
                row = builder.gep(right, [builder.mul(loop.index, args[7])])
                parts = [_fetch(builder, row, ir.Constant(I64, v * width * size), kind, size) for v in range(n)]
                at = builder.mul(loop.index, args[5])
                for r in range(m):
                    factor = _splat(builder, _fetch(builder, lines[r], at, element, size), width)
                    for v in range(n):
                        place = sums[r * n + v]
                        builder.store(_multiply_add(builder, factor, parts[v], builder.load(place)), place)
            for r in range(m):
                line = builder.gep(out, [builder.mul(args[10], ir.Constant(I64, r))])
                for v in range(n):
                    _put(builder, builder.load(sums[r * n + v]), line, ir.Constant(I64, v * width * size), size)
            return context.get_dummy_value()
        return types.void(rows, vectors, lanes, *[types.intp] * 8), emit

    return multiply_tile, dot_tile, product_tile


def _make_turn(bits: int):
    element = ir.IntType(bits)

    @intrinsic
    def turn_square(typing, side, source, step, target, row):
        """Row j, column i of the target is the j-th element of the i-th line of the source; `side` (a power of two) lines and rows.

        Lines begin `step` bytes apart, rows `row`; both are dense in themselves. The two share no memory; addresses are integers.
        """
        if not _literals(side):
            return None
        n = side.literal_value

        def emit(context, builder, signature, args):
            kind = ir.VectorType(element, n)
            read, write = _bytes(builder, args[1]), _bytes(builder, args[3])
            lines = [_fetch(builder, read, builder.mul(args[2], ir.Constant(I64, k)), kind, bits // 8) for k in range(n)]
            low = [k // 2 + k % 2 * n for k in range(n)]                # the first halves of two vectors, element by element
            high = [k + n // 2 for k in low]
            for _ in range(n.bit_length() - 1):
                pairs = zip(lines[:n // 2], lines[n // 2:], strict=True)
                lines = [_shuffle(builder, a, b, places) for a, b in pairs for places in (low, high)]
            for k, line in enumerate(lines):
                _put(builder, line, write, builder.mul(args[4], ir.Constant(I64, k)), bits // 8)
            return context.get_dummy_value()
        return types.void(side, *[types.intp] * 4), emit

    return turn_square


NAMES: dict = {}            # what kernel source may call
for _dtype in ELEMENT:
    NAMES[f"multiply_tile_{_dtype}"], NAMES[f"dot_tile_{_dtype}"], NAMES[f"product_tile_{_dtype}"] = _make(_dtype)
for _bits in (8, 16, 32, 64):
    NAMES[f"turn_square_uint{_bits}"] = _make_turn(_bits)
