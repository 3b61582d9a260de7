"""Pointwise CUDA kernels: source text of records, gradients, conversions and fused expressions, each input read once.

    >>> print(dense(forward(BOOK["add"], "float32")).source)
    def kernel(q0, p0, p1, n):
        i = block() * threads() + thread()
        step = blocks() * threads()
        whole = n >> 2
        while i < whole:
            a0 = load4_float32(p0, i * 16)
            a1 = load4_float32(p1, i * 16)
            x0_0 = a0[0]
            x1_0 = a1[0]
            v0_0 = op_add(x0_0, x1_0)
            r0_0 = v0_0
            ...
            store4_float32(q0, i * 16, (as_float32(r0_0), as_float32(r0_1), as_float32(r0_2), as_float32(r0_3)))
            i += step
        i = (whole << 2) + block() * threads() + thread()
        if i < n: ...                                       # at most three elements are left

`dense`: all operands contiguous in the same order; `banded`: rows of neighbours, where some operand is one row for all or a number
a row; `strided`: any strides, up to DIMENSIONS dimensions, in 32-bit or 64-bit indices. Operands that are one number are passed by
value. Which of them runs is settled in `kernels.cuda.launch`.
"""
from __future__ import annotations

import functools
import re

from ..book import Pointwise
from ..source import ITEMSIZE, cast_value, gradient_plan, gradient_types, indented, number_text, packed, unpacked
from ..symbol import Symbol, lines
from .compiler import Program

DIMENSIONS = 6          # of the strided kernels; what has more is launched in slices
BAND, BATCH = 16, 8     # rows that a thread of a banded kernel walks, while it holds what is the same in all; read at once
HEAVY = 2               # work (kernels.book) from which a thread takes one element at a time: such kernels wait for arithmetic
CARRIER = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}       # bytes of any dtype travel as these


class Map:
    """What a pointwise kernel computes: expressions in inputs of given dtypes, results of given dtypes."""

    def __init__(self, name: str, outputs: list, names: tuple[str, ...], in_types: tuple[str, ...], out_types: tuple[str, ...],
                 compute: str, work: int = 1):
        self.name, self.outputs, self.names, self.compute, self.work = name, outputs, names, compute, work
        self.in_types, self.out_types = in_types, out_types

    def width(self) -> int:
        """How many elements a thread takes at once: up to 16 bytes of the widest operand, and at most four."""
        return 1 if self.work >= HEAVY else max(1, min(4, 16 // max(ITEMSIZE[d] for d in (*self.in_types, *self.out_types))))

    def body(self) -> tuple[list[str], list[str], dict]:
        """Statements of one element, the names of their results, and what they call."""
        literal = "float64" if self.compute == "bool" else self.compute
        statements, results, operators = lines(self.outputs, lambda number: number_text(number, literal))
        return statements, results, {f"op_{o.name}": o.body(self.compute) for o in operators}

    def evaluated(self, values: list[str], suffix: str = "") -> list[str]:
        """Statements that make the results `r<k><suffix>` of the inputs' values; functions cost compile time."""
        statements, results, _ = self.body()
        named = dict(zip(self.names, (f"x{k}{suffix}" for k in range(len(values))), strict=True))

        def renamed(text: str) -> str:
            return re.sub(r"\b[A-Za-z_]\w*", lambda m: named.get(m[0]) or (
                m[0] + suffix if re.fullmatch(r"[vw]\d+", m[0]) else m[0]), text)
        return [*(f"{name} = {value}" for name, value in zip(named.values(), values, strict=True)), *map(renamed, statements),
                *(f"r{k}{suffix} = {renamed(result)}" for k, result in enumerate(results))]

    def numbers(self, chosen: tuple[int, ...]) -> tuple[list[str], list[str], list[str]]:
        """Of inputs passed by value: parameters, their dtypes, and statements that make `c<k>` of them."""
        parameters, dtypes, code = [], [], []
        for k in chosen:
            dtype = self.in_types[k]
            if dtype.startswith("complex"):
                part = "float32" if dtype == "complex64" else "float64"
                parameters += [f"n{k}", f"im{k}"]
                dtypes += [part, part]
                code.append(f"c{k} = as_{dtype}(complex(n{k}, im{k}))")
            else:
                parameters.append(f"n{k}")
                dtypes.append(dtype)
                code.append(f"c{k} = {unpacked(dtype, f'n{k}')}")
        return parameters, dtypes, code

    def element(self, offsets_in: list[str], offsets_out: list[str], chosen: tuple[int, ...]) -> list[str]:
        """Statements for one element at byte offsets."""
        values = [f"c{k}" if k in chosen else unpacked(d, f"load_{d}(p{k}, {offsets_in[k]})") for k, d in enumerate(self.in_types)]
        return [*self.evaluated(values), *(f"store_{d}(q{k}, {offsets_out[k]}, {packed(d, f'r{k}')})"
                                           for k, d in enumerate(self.out_types))]


def _program(about: Map, form: str, chosen: tuple[int, ...], parameters: list[str], dtypes: list[str], code: list[str]) -> Program:
    outs, ins = range(len(about.out_types)), [k for k in range(len(about.in_types)) if k not in chosen]
    number_parameters, number_dtypes, number_code = about.numbers(chosen)
    memory = [*(f"q{k}" for k in outs), *(f"p{k}" for k in ins)]
    source = [f"def kernel({', '.join([*memory, *number_parameters, *parameters])}):", *indented(1, [*number_code, *code])]
    functions = about.body()[2]
    name = "_".join([about.name, form, *(["by_value_" + "".join(map(str, chosen))] if chosen else [])])
    return Program(name, "\n".join(source) + "\n", ("address",) * len(memory) + (*number_dtypes, *dtypes), functions)


@functools.cache
def dense(about: Map, chosen: tuple[int, ...] = ()) -> Program:
    """All operands contiguous, addresses aligned to `width` elements, in one order; inputs `chosen` passed by value."""
    width = about.width()
    shift = width.bit_length() - 1
    sizes_in, sizes_out = [ITEMSIZE[d] for d in about.in_types], [ITEMSIZE[d] for d in about.out_types]
    code = ["i = block() * threads() + thread()", "step = blocks() * threads()"]
    one = about.element([f"i * {s}" for s in sizes_in], [f"i * {s}" for s in sizes_out], chosen)
    if width == 1:
        code += ["while i < n:", *indented(1, [*one, "i += step"])]
        return _program(about, "dense", chosen, ["n"], ["int64"], code)
    ins = [k for k in range(len(sizes_in)) if k not in chosen]
    group = [f"a{k} = load{width}_{about.in_types[k]}(p{k}, i * {width * sizes_in[k]})" for k in ins]
    for v in range(width):
        values = [f"c{k}" if k in chosen else unpacked(d, f"a{k}[{v}]") for k, d in enumerate(about.in_types)]
        group += about.evaluated(values, f"_{v}")
    for k, d in enumerate(about.out_types):
        together = ", ".join(packed(d, f"r{k}_{v}") for v in range(width))
        group.append(f"store{width}_{d}(q{k}, i * {width * sizes_out[k]}, ({together}))")
    code += [f"whole = n >> {shift}", "while i < whole:", *indented(1, [*group, "i += step"]),
             f"i = (whole << {shift}) + block() * threads() + thread()", "if i < n:", *indented(1, one)]
    return _program(about, "dense", chosen, ["n"], ["int64"], code)


@functools.cache
def banded(about: Map, pattern: str, width: int, chosen: tuple[int, ...] = ()) -> Program:
    """Rows of neighbouring results, `width` of them at a time. `pattern` has a letter for each operand in memory, results first:
    w, a row of neighbours for each row; h, one row for all, which a thread reads once for BAND rows; s, a number a row.

    After the addresses come how many groups of `width` a row has, how many rows there are, how many threads share a row (a power of
    two), and each operand's step to the next row. BATCH rows are read before the first is computed with, for memory is far away.
    """
    outs, ins = range(len(about.out_types)), [k for k in range(len(about.in_types)) if k not in chosen]
    letters = dict(zip([*(f"q{k}" for k in outs), *(f"p{k}" for k in ins)], pattern, strict=True))
    wide = "" if width == 1 else str(width)
    batch = BATCH if about.work < HEAVY else 1

    def offset(operand: str, dtype: str, row: str) -> str:
        across = "" if letters[operand] == "h" else f"{row} * u_{operand}"
        along = "" if letters[operand] == "s" else f"i * {width * ITEMSIZE[dtype]}"
        return " + ".join(filter(None, (across, along)))

    def read(k: int, name: str, row: str = "") -> str:
        dtype, operand = about.in_types[k], f"p{k}"
        return f"{name} = load{'' if letters[operand] == 's' else wide}_{dtype}({operand}, {offset(operand, dtype, row)})"

    def rows(count: int) -> list[str]:
        """Statements for some rows from `row` on."""
        code = [read(k, f"a{k}_{b}", f"(row + {b})") for b in range(count) for k in ins if letters[f"p{k}"] != "h"]
        for b in range(count):
            for v in range(width):
                values = []
                for k, d in enumerate(about.in_types):
                    letter = letters.get(f"p{k}", "")
                    held = f"a{k}" if letter == "h" else f"a{k}_{b}"
                    values.append(f"c{k}" if k in chosen else unpacked(d, f"{held}[{v}]" if wide and letter != "s" else held))
                code += about.evaluated(values, f"_{b}_{v}")
            for k, d in enumerate(about.out_types):
                results = ", ".join(packed(d, f"r{k}_{b}_{v}") for v in range(width))
                place = offset(f"q{k}", d, f"(row + {b})")
                code.append(f"store{wide}_{d}(q{k}, {place}, {f'({results})' if wide else results})")
        return [*code, f"row += {count}"]
    walk = [*(read(k, f"a{k}") for k in ins if letters[f"p{k}"] == "h"),
            f"row = (band * each + quotient(thread(), lanes)) * {BAND}", f"last = min(row + {BAND}, rows)",
            *([f"while row + {batch - 1} < last:", *indented(1, rows(batch))] if batch > 1 else []),
            "while row < last:", *indented(1, rows(1))]
    code = ["tiles = quotient(n + lanes - 1, lanes)", "each = quotient(threads(), lanes)",
            f"bands = quotient(rows + {BAND} * each - 1, {BAND} * each)", "item = block()", "while item < tiles * bands:",
            *indented(1, ["band = quotient(item, tiles)", "i = (item - band * tiles) * lanes + (thread() & (lanes - 1))",
                          "if i < n:", *indented(1, walk), "item += blocks()"])]
    steps = [f"u_{operand}" for operand in letters]
    parameters = ["n", "rows", "lanes", *steps]
    return _program(about, f"banded_{pattern}_{width}", chosen, parameters, ["int64"] * len(parameters), code)


@functools.cache
def strided(about: Map, wide: bool = False, chosen: tuple[int, ...] = ()) -> Program:
    """Any strides: dimension 0 is the innermost, strides are in bytes; `wide`: more than 2**31 elements, or strides beyond 32 bits.

    After the addresses come n, the number of dimensions, for each but the outermost its size (and, with 32 bits, the multiplier
    and shift that divide by it), then for each operand its strides, the outermost first.
    """
    operands = [*(f"q{k}" for k in range(len(about.out_types))), *(f"p{k}" for k in range(len(about.in_types)) if k not in chosen)]
    inner = range(DIMENSIONS - 1)
    parameters = ["n", "dims", *(f"s{d}" for d in inner)]
    word = "int64" if wide else "int32"
    dtypes = ["int64", "int32", *[word] * len(inner)]
    if not wide:
        parameters += [f"{letter}{d}" for letter in "mh" for d in inner]
        dtypes += [*["uint32"] * len(inner), *["int32"] * len(inner)]
    for o in operands:
        parameters += [f"u_{o}", *(f"t_{o}_{d}" for d in inner)]
        dtypes += [word] * DIMENSIONS

    def moved(o: str, index: str, stride: str) -> str:
        return f"o_{o} = o_{o} + {index} * {stride}" if wide else f"o_{o} = place(o_{o}, {index}, {stride})"
    loop = ["rest = i", *(f"o_{o} = 0" for o in operands)]
    for d in inner:
        divide = f"quotient(rest, s{d})" if wide else f"divided(rest, m{d}, h{d})"
        loop += [f"if dims > {d + 1}:", *indented(1, [f"left = {divide}", f"at = rest - left * s{d}",
                                                      *(moved(o, "at", f"t_{o}_{d}") for o in operands), "rest = left"])]
    loop += [moved(o, "rest", f"u_{o}") for o in operands]
    loop += about.element([f"o_p{k}" for k in range(len(about.in_types))], [f"o_q{k}" for k in range(len(about.out_types))], chosen)
    code = ["i = block() * threads() + thread()", "step = blocks() * threads()", "while i < n:", *indented(1, [*loop, "i += step"])]
    return _program(about, "strided_wide" if wide else "strided", chosen, parameters, dtypes, code)


# --- what is computed -------------------------------------------------------------------------------------------------

@functools.cache
def forward(op: Pointwise, dtype: str) -> Map:
    """A pointwise record computed in `dtype`."""
    result = op.result(dtype)
    results = result if isinstance(result, tuple) else (result,)
    return Map(f"{op.name}_{dtype}", [Symbol("", op, [Symbol(n) for n in op.inputs])], op.inputs, op.operand_types(dtype), results,
               dtype, op.work)


@functools.cache
def gradient(op: Pointwise, dtype: str, mask: tuple[bool, ...]) -> Map:
    """All wanted gradients of a record at once: reads the cotangent and what the partials mention."""
    wanted, names = gradient_plan(op, dtype.startswith("complex"), mask)
    types, targets = gradient_types(op, dtype, mask)
    return Map(f"{op.name}_gradient_{''.join('01'[m] for m in mask)}_{dtype}", list(wanted), names, types, targets, dtype, op.work)


@functools.cache
def cast(source: str, target: str) -> Map:
    """Conversion between dtypes."""
    return Map(f"cast_{source}_{target}", [cast_value(source, target)], ("x",), (source,), (target,), source)


@functools.cache
def copy(size: int) -> Map:
    """Elements of `size` bytes, whatever they mean."""
    carrier = CARRIER[size]
    return Map(f"copy_{size}", [Symbol("x")], ("x",), (carrier,), (carrier,), carrier)
