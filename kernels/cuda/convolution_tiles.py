"""Kernels of convolutions on CUDA: the product of a matrix with the sliding windows of an image, which are never made.

    q[i, j] = sum over k of a[i, k] * b[k, j]       j and k are four numbers each: 0, z, y, x
    b[k, j] = image[k_0, j_0, z, y, x],             z = base_z + j_z * j_step_z + k_z * k_step_z, ...; zero outside of the image

`tiled_program` makes tiles of q in registers from slices in shared memory, as `kernels.cuda.matmul`; where each k lies in the
operands is worked out once a slice for all threads. `single_program` makes one number a thread, for few rows. Which product a
convolution is, and which kernel makes it, is said in `kernels.cuda.convolution`.
"""
from __future__ import annotations

import functools

from ..source import ITEMSIZE, indented, packed, unpacked
from .compiler import Program
from .matmul import DEPTH, SHAPES, THREADS

FAR = 1 << 40           # a coordinate that lies outside of every image
ENTRY = 48              # bytes of what is known of one k in a slice: z, y, x, offset in the image, offset in a

AXES = "zyx"
PARAMETERS = ("rows", "columns", "depth", "part", "groups", "items", "down", "beside", "biased", "bias_step", "vectors",
              *(f"{w}_{a}" for w in ("j_size", "k_size", "j_magic", "k_magic", "j_shift", "k_shift", "j_step", "k_step", "base",
                                     "size") for a in AXES),
              "a_group", "a_i", "a_0", "a_z", "a_y", "a_x", "b_group", "b_j", "b_k", "b_z", "b_y", "b_x",
              "q_group", "q_i", "q_0", "q_z", "q_y", "q_x", "q_part")


# --- source -----------------------------------------------------------------------------------------------------------

def _digits(letter: str, number: str) -> list[str]:
    """(0, z, y, x) of a number below 2**31."""
    lines, left = [], number
    for axis, over in (("x", "over_x"), ("y", "over_y"), ("z", f"{letter}_0")):
        lines += [f"{over} = divided({left}, {letter}_magic_{axis}, {letter}_shift_{axis})",
                  f"{letter}_{axis} = {left} - {over} * {letter}_size_{axis}"]
        left = over
    return lines


def result_type(form: str, dtype: str) -> str:
    """What a product writes: sums to weights are rounded to a half after their parts are added."""
    return SHAPES[dtype].compute if form == "weight" else dtype


PLACE_J = ["z_j = base_z + j_z * j_step_z", "y_j = base_y + j_y * j_step_y", "x_j = base_x + j_x * j_step_x",
           "at_j = from_b + j_0 * b_j + z_j * b_z + y_j * b_y + x_j * b_x"]
PLACE_Q = "at_q = from_q + j_0 * q_0 + j_z * q_z + j_y * q_y + j_x * q_x"


def _program(name: str, body: list[str]) -> Program:
    source = [f"def kernel(q, a, b, bias, {', '.join(PARAMETERS)}):", *indented(1, body)]
    return Program(name, "\n".join(source) + "\n", ("address",) * 4 + ("int64",) * len(PARAMETERS), {}, THREADS)


FROM = ["piece = quotient(batch, groups)", "group = batch - piece * groups", "first = piece * part",
        "stop = smaller(depth, first + part)", "from_a, from_b = group * a_group, group * b_group",
        "from_q = group * q_group + piece * q_part"]


@functools.cache
def single_program(form: str, dtype: str) -> Program:
    """One number of q a thread; neighbouring threads have neighbouring j."""
    compute, result = SHAPES[dtype].compute, result_type(form, dtype)
    u, v = unpacked(dtype, f"read_{dtype}(a, row_a + k_x * a_x)"), unpacked(dtype, f"read_{dtype}(b, row_b + x * b_x)")
    added = f"total = libm.fma({u}, {v}, total)" if compute.startswith("float") else f"total = as_{compute}({u} * {v} + total)"
    line = ["z, y = z_j + k_z * k_step_z, y_j + k_y * k_step_y", "inside = 0 <= z and z < size_z and 0 <= y and y < size_y",
            "row_a = at_a + k_0 * a_0 + k_z * a_z + k_y * a_y", "row_b = at_b + k_0 * b_k + z * b_z + y * b_y",
            "while k_x < k_size_x and k < stop:",
            *indented(1, ["x = x_j + k_x * k_step_x", "if inside and 0 <= x and x < size_x:", f"    {added}", "k_x = k_x + 1",
                          "k = k + 1"]),
            "if k_x == k_size_x:",
            *indented(1, ["k_x, k_y = 0, k_y + 1", "if k_y == k_size_y:", "    k_y, k_z = 0, k_z + 1", "    if k_z == k_size_z:",
                          "        k_z, k_0 = 0, k_0 + 1"])]
    walk = ["over = quotient(item, columns)", "j = item - over * columns", "batch = quotient(over, rows)",
            "i = over - batch * rows", *FROM, *_digits("j", "j"), *PLACE_J[:3],
            "at_a, at_b = from_a + i * a_i, from_b + j_0 * b_j", "k = first", *_digits("k", "k"), f"total = as_{compute}(0)",
            "while k < stop:", *indented(1, line)]
    if form == "image":
        value = unpacked(dtype, f"read_{dtype}(bias, (group * rows + i) * bias_step)")
        walk += ["if biased != 0:", f"    total = total + {value}"]
    walk += [PLACE_Q, f"store_{result}(q, at_q + i * q_i, {packed(result, 'total')})", "item = item + blocks() * threads()"]
    return _program(f"convolution_single_{form}_{dtype}", ["item = block() * threads() + thread()",
                                                          "while item < items:", *indented(1, walk)])


@functools.cache
def tiled_program(form: str, dtype: str, tile: int) -> Program:
    """Tiles of q, `tile` x `tile`; `form`: "image" (forward and back) or "weight"."""
    compute, vector, _, pad, _ = SHAPES[dtype]
    vector = min(vector, tile // 16)
    size, per, row = ITEMSIZE[compute], tile // 16, tile + pad
    code = [f"left, right, known = shared({DEPTH * row * size}), shared({DEPTH * row * size}), shared({DEPTH * ENTRY})",
            "t = thread()", "tx, ty = t & 15, t >> 4", "tiles = down * beside", "batch = quotient(block(), tiles)",
            "at = block() - batch * tiles", "tile_row = quotient(at, beside)",
            f"first_row, first_column = tile_row * {tile}, (at - tile_row * beside) * {tile}", *FROM]
    left, right = _places(dtype, tile, True), _places(dtype, tile, form == "weight")
    for f, i in enumerate(left[0]):
        code += [f"row_{f} = first_row + {i}", f"at_a_{f} = from_a + row_{f} * a_i"]
    for f, j in enumerate(right[0]):
        code += [f"j = first_column + {j}", f"z_{f}, y_{f}, x_{f}, at_b_{f} = -{FAR}, 0, 0, 0", "if j < columns:",
                 *indented(1, [*_digits("j", "j"), *PLACE_J, f"z_{f}, y_{f}, x_{f}, at_b_{f} = z_j, y_j, x_j, at_j"])]
    code += [f"c{i}_{j} = as_{compute}(0)" for i in range(per) for j in range(per)]
    code += ["start = first", *_known("start"), "barrier()"]
    inner = []
    peek = f"peek{vector if vector > 1 else ''}_{compute}"
    for operand, memory, lane in (("x", "left", "ty"), ("y", "right", "tx")):
        for g in range(per // vector):
            names = ", ".join(f"{operand}{g * vector + v}" for v in range(vector))
            inner.append(f"{names} = {peek}({memory}, (kk * {row} + {lane} * {vector} + {16 * vector * g}) * {size})")
    multiply = "libm.fma(x{i}, y{j}, c{i}_{j})" if compute.startswith("float") else f"as_{compute}(x{{i}} * y{{j}} + c{{i}}_{{j}})"
    inner += [f"c{i}_{j} = {multiply.format(i=i, j=j)}" for i in range(per) for j in range(per)]
    code += ["while start < stop:",
             *indented(1, [*_slices(dtype, tile, left, right), "barrier()", *_known(f"start + {DEPTH}"), "kk = 0",
                           f"while kk < {DEPTH}:", *indented(1, [*inner, "kk = kk + 1"]), "barrier()", f"start = start + {DEPTH}"])]
    if form == "image":
        value = unpacked(dtype, f"read_{dtype}(bias, (group * rows + row) * bias_step)")
        code += ["if biased != 0:", *indented(1, [line for i in range(per) for line in (
            f"row = {_row(i, vector)}", "if row < rows:",
            f"    more = {value}", *(f"    c{i}_{j} = c{i}_{j} + more" for j in range(per)))])]
    return _program(f"convolution_{form}_{dtype}_{tile}", code + _results(result_type(form, dtype), per, vector))


def _places(dtype: str, tile: int, across: bool) -> tuple[list[str], list[tuple[int, str]]]:
    """Which numbers of a slice a thread brings: its indices, and for each number (which of them, kk).

    `across`: neighbouring threads take neighbouring kk, as weights and cotangents lie; else neighbouring indices.
    """
    count, together = tile * DEPTH // THREADS, SHAPES[dtype].together
    if not across:
        return [f"(t & {tile - 1})"], [(0, f"(t >> {tile.bit_length() - 1}) + {p * THREADS // tile}") for p in range(count)]
    shift, rows = together.bit_length() - 1, min(tile, THREADS // together)
    folds = tile // rows
    return [f"(t >> {shift}) + {f * rows}" for f in range(folds)], [
        (p % folds, f"(t & {together - 1}) + {p // folds * together}") for p in range(count)]


def _known(start: str) -> list[str]:
    """Statements by which the first threads write down where each k of a slice lies."""
    body = [f"k = {start} + t", f"z, y, x, at_k, at_w = -{FAR}, 0, 0, 0, 0", "if k < stop:",
            *indented(1, [*_digits("k", "k"), "z, y, x = k_z * k_step_z, k_y * k_step_y, k_x * k_step_x",
                          "at_k = k_0 * b_k + z * b_z + y * b_y + x * b_x",
                          "at_w = k_0 * a_0 + k_z * a_z + k_y * a_y + k_x * a_x"])]
    body += [f"keep_int64(known, t * {ENTRY} + {8 * n}, {name})" for n, name in enumerate(("z", "y", "x", "at_k", "at_w"))]
    return [f"if t < {DEPTH}:", *indented(1, body)]


def _slices(dtype: str, tile: int, left: tuple, right: tuple) -> list[str]:
    """Statements that bring slices of both operands into shared memory: all reads before the first write, so that they overlap."""
    compute, _, _, pad, _ = SHAPES[dtype]
    size, reads, writes = ITEMSIZE[compute], [], []
    for p, (f, kk) in enumerate(left[1]):
        value = unpacked(dtype, f"read_{dtype}(a, at_a_{f} + peek_int64(known, kk * {ENTRY} + 32))")
        reads += [f"kk = {kk}", f"u{p} = as_{compute}(0)", f"if row_{f} < rows and start + kk < stop:",
                  f"    u{p} = as_{compute}({value})"]
        writes += [f"kk = {kk}", f"keep_{compute}(left, (kk * {tile + pad} + {left[0][f]}) * {size}, u{p})"]
    for p, (f, kk) in enumerate(right[1]):
        value = unpacked(dtype, f"read_{dtype}(b, at_b_{f} + at_k)")
        reads += [f"kk = {kk}", f"v{p} = as_{compute}(0)", f"z, y = peek2_int64(known, kk * {ENTRY})",
                  f"x, at_k = peek2_int64(known, kk * {ENTRY} + 16)", f"z, y, x = z + z_{f}, y + y_{f}, x + x_{f}",
                  "if 0 <= z and z < size_z and 0 <= y and y < size_y and 0 <= x and x < size_x:",
                  f"    v{p} = as_{compute}({value})"]
        writes += [f"kk = {kk}", f"keep_{compute}(right, (kk * {tile + pad} + {right[0][f]}) * {size}, v{p})"]
    return reads + writes


def _row(i: int, vector: int) -> str:
    return f"first_row + ty * {vector} + {i // vector * 16 * vector + i % vector}"


def _results(result: str, per: int, vector: int) -> list[str]:
    """Statements that write a thread's results, as vectors where neighbours of a row lie so."""
    code = [f"row_{i} = {_row(i, vector)}" for i in range(per)]

    def written(names: list[list[str]], verb: str) -> list[str]:
        """Values of each row behind one another from j on."""
        lines = []
        for i, values in enumerate(names):
            text = ", ".join(packed(result, v) for v in values)
            text = f"({text})" if len(values) > 1 else text
            lines += [f"if row_{i} < rows:", f"    {verb}_{result}(q, at_q + row_{i} * q_i, {text})"]
        return ["if j < columns:", *indented(1, [*_digits("j", "j"), PLACE_Q, *lines])]
    for g in range(per // vector):
        column = f"first_column + tx * {vector} + {g * 16 * vector}"
        singles = [line for v in range(vector) for line in (
            f"j = {column} + {v}", *written([[f"c{i}_{g * vector + v}"] for i in range(per)], "store"))]
        if vector == 1:
            code += singles
            continue
        together = [f"j = {column}", *written([[f"c{i}_{g * vector + v}" for v in range(vector)] for i in range(per)],
                                              f"store{vector}")]
        code += ["if vectors != 0:", *indented(1, together), "else:", *indented(1, singles)]
    return code
