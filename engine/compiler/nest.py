"""Loop nests: one kernel for many nodes of a program, over rows and the columns of each row.

A nest walks an index space, its domain. Nodes whose values are not stored are computed where they are read ("inlined"):
the index of the reader, an affine form of the loop variables, is carried through views to the values they read, down to
memory. Folds over the last dimensions of the domain are finished row by row, so that what depends on them (softmax, norms)
follows in the same kernel, in the next phase. Rows are cut into chunks that run on several threads; sizes and strides are
constants in the source.
"""
from __future__ import annotations

import dataclasses
import math

from kernels.cpu.folds import functions as fold_functions
from kernels.cpu.folds import states
from kernels.cpu.maps import FLOATING, ITEMSIZE, loaded, stored
from kernels.cpu.native import Program
from kernels.symbol import Symbol, called, joints

from .graph import Map, Put, Reduce, Ref, Value, core
from .passes import decoded
from .trace import Untraceable

BLOCK = 32              # elements that lanes add up in the running dtype before they go into totals
MOST_MEMORIES, MOST_SIZES = 30, 15      # room on the stack of the loop that hands out chunks (kernels.cpu.pool)

Affine = tuple          # ((loop variable, coefficient), ..., ("", constant)): sorted, no zeros


def affine(terms: dict[str, int]) -> Affine:
    return tuple(sorted((k, c) for k, c in terms.items() if c))


def plus(a: Affine, b: Affine, times: int = 1) -> Affine:
    terms = dict(a)
    for k, c in b:
        terms[k] = terms.get(k, 0) + c * times
    return affine(terms)


def text(a: Affine, scale: int = 1) -> str:
    """Source of an affine form."""
    if not a:
        return "0"
    return " + ".join(f"{c * scale}" if not k else k if c * scale == 1 else f"{k} * {c * scale}" for k, c in a).replace("+ -", "- ")


@dataclasses.dataclass
class Operand:
    """A block of memory that a kernel reads or writes."""

    value: Value
    name: str
    written: bool = False


class Body:
    """Statements that compute elements at one place of a loop nest; the same element is computed once."""

    def __init__(self, nest: Nest, lines: list[str], indent: int, known: dict):
        self.nest, self.lines, self.indent = nest, lines, indent
        self.known = dict(known)

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def let(self, right: str) -> str:
        name = self.known.get(right)
        if name is None:
            name = self.known[right] = self.nest.fresh()
            self.say(f"{name} = {right}")
        return name

    def element(self, value: Value, index: tuple[Affine, ...]) -> str:
        """The variable that holds one element of a value."""
        key = id(value), index
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._element(value, index)
        return found

    def _element(self, value: Value, index) -> str:
        nest = self.nest
        held = nest.held.get(id(value))
        if held is not None:                    # in a register or on the stack of this kernel
            return self.let(held(index))
        node = value.node
        if id(value) in nest.stored or node is None or not isinstance(node, (Map, Put)):
            at: Affine = ()
            for i, s in zip(index, value.strides, strict=True):
                at = plus(at, i, s)
            return self.load(value, at)
        if isinstance(node, Put):
            return self.put(node, index)
        return self.map(node, value, index)

    def map(self, node: Map, value: Value, index) -> str:
        names = {f"x{k}": self.read(r, index) for k, r in enumerate(node.reads)}
        e = node.expressions[value.output]
        return self.nest.converted(self, value.dtype, self.expression(e, node.compute, names))

    def read(self, ref: Ref, index) -> str:
        """The element of a view at an index of the view."""
        found = self.nest.decoded(ref)
        if found is None:               # over the dimensions of a value that lies in memory: by address
            at = affine({"": ref.offset})
            for i, s in zip(index, ref.strides, strict=True):
                at = plus(at, i, s)
            return self.load(ref.value, at)
        start, steps = found
        inner = [affine({"": s}) for s in start]
        for i, step in zip(index, steps, strict=True):
            for d, c in enumerate(step):
                if c:
                    inner[d] = plus(inner[d], i, c)
        return self.element(ref.value, tuple(inner))

    def load(self, value: Value, at: Affine) -> str:
        """The variable that holds the element of a stored value at a place in its memory."""
        name, how = self.nest.operand(value)
        return self.let(loaded(value.dtype, name, text(at, ITEMSIZE[value.dtype]), how))

    def expression(self, e, compute: str, names: dict[str, str]) -> str:
        if not isinstance(e, Symbol):
            return f"as_{'float64' if compute == 'bool' else compute}({e!r})"
        if e.name:
            return names[e.name]
        operator, part = called(e.operator, self.nest.together)
        function = f"{operator.name}_{compute}"
        self.nest.functions[function] = operator.body(compute)
        made = self.let(f"{function}({', '.join(self.expression(o, compute, names) for o in e.operands)})")
        return self.let(made + part) if part else made

    def put(self, node: Put, index) -> str:
        """The part where the index is in its region, else what lies below."""
        value, part = node.values[0], node.reads[-1]
        found = self.nest.decoded(node.place)
        apart = found is not None and _separate(found[1])
        inner, tests = self.within(node, found, index) if apart else self.along(node.place, index)
        name = self.nest.fresh()
        zero = repr(bool(node.fill)) if value.dtype == "bool" else f"as_{self.nest.held_as(value.dtype)}({node.fill or 0!r})"
        if not tests:
            return self.read(part, tuple(inner))
        self.say(f"if {' and '.join(tests)}:")
        inside = Body(self.nest, self.lines, self.indent + 1, self.known)
        inside.say(f"{name} = {inside.read(part, tuple(inner))}")
        self.say("else:")
        outside = Body(self.nest, self.lines, self.indent + 1, self.known)
        outside.say(f"{name} = {zero if len(node.reads) == 1 else outside.read(node.reads[0], index)}")
        return name


    def within(self, node: Put, found, index) -> tuple[list[Affine], list[str]]:
        """(index of the part, tests that it is one) at an index of the value, where dimensions of both belong together."""
        value, part = node.values[0], node.reads[-1]
        start, steps = found
        tests: list[str] = []
        inner: list[Affine] = [()] * len(part.shape)
        for d, n in enumerate(value.shape):
            distance = plus(index[d], affine({"": -start[d]}))
            moving = [j for j, step in enumerate(steps) if step[d]]
            if not moving:
                if n > 1:
                    tests.append(f"{text(distance)} == 0")
                continue
            j = moving[0]
            c, count = steps[j][d], part.shape[j]
            if c != 1:
                if any(x % c for _, x in distance):
                    tests.append(f"({text(distance)}) % {c} == 0")
                    inner[j] = affine({self.let(f"({text(distance)}) // {c}"): 1})
                else:
                    inner[j] = affine({k: x // c for k, x in distance})
            else:
                inner[j] = distance
            if start[d] or count * abs(c) < n:
                if start[d]:
                    tests.append(f"{text(inner[j])} >= 0")
                if start[d] + count * abs(c) < n:
                    tests.append(f"{text(inner[j])} < {count}")
        return inner, tests

    def along(self, place: Ref, index) -> tuple[list[Affine], list[str]]:
        """The same for any region whose elements lie apart: the place in memory as a number whose digits are the part's index."""
        at = affine({"": -lowest(place)})
        for i, s in zip(index, place.value.strides, strict=True):
            at = plus(at, i, s)
        rest = self.let(text(at))
        tests = [f"{rest} >= 0"]
        inner: list[Affine] = [()] * len(place.shape)
        for n, s, j in digits(place):
            digit = self.let(f"{rest} // {abs(s)}") if abs(s) != 1 else rest
            tests.append(f"{digit} < {n}")
            inner[j] = affine({digit: 1}) if s > 0 else affine({digit: -1, "": n - 1})
            rest = self.let(f"{rest} - {digit} * {abs(s)}") if abs(s) != 1 else "0"
        if rest != "0":
            tests.append(f"{rest} == 0")
        return inner, tests


def _separate(steps: list[tuple[int, ...]]) -> bool:
    """Whether each dimension of a region runs forward along a dimension of the value that no other one runs along."""
    moving = [[(d, c) for d, c in enumerate(step) if c] for step in steps]
    dims = [d for m in moving for d, _ in m]
    return all(len(m) <= 1 and all(c > 0 for _, c in m) for m in moving) and len(set(dims)) == len(dims)


def digits(place: Ref) -> list[tuple[int, int, int]]:
    """(size, stride, dimension) of a region from the largest stride down; Untraceable where elements may share a place."""
    found = sorted(((n, s, j) for j, (n, s) in enumerate(zip(place.shape, place.strides, strict=True)) if n != 1),
                   key=lambda f: -abs(f[1]))
    extent = 1
    for n, s, _ in reversed(found):
        if abs(s) < extent:
            raise Untraceable("it writes a region that is no grid")
        extent += (n - 1) * abs(s)
    return found


def lowest(place: Ref) -> int:
    """The least position in memory of a region."""
    return place.offset + sum((n - 1) * s for n, s in zip(place.shape, place.strides, strict=True) if s < 0)


class Nest:
    """One kernel under construction.

    `dims`: sizes of the domain; the first `rows` of them are rows. `phases[p]`: nodes of phase p in order. A node's values
    lie over the whole domain, or over the rows only.
    """

    def __init__(self, name: str, dims: tuple[int, ...], rows: int):
        self.name, self.dims, self.rows = name, dims, rows
        self.phases: list[list] = [[]]
        self.stored: set[int] = set()           # ids of values that lie in memory
        self.functions: dict[str, tuple] = {}
        self.fast: dict[str, tuple[str, ...]] = {}
        self.together: set = set()              # see `kernels.symbol.called`
        self.operands: dict[int, Operand] = {}
        self.held: dict = {}
        self.count = self.folds = 0
        self._decoded: dict = {}
        self.variables: dict[int, tuple[str, ...]] = {}     # of a stored map: the loop variable of each dimension of its value
        self.fold_index: dict[int, tuple[str, ...]] = {}    # of a fold: the loop variable of each dimension of its first read
        self.stacks: list[str] = []
        self.pieces: dict[int, list[Value]] = {}            # of a fold cut into chunks: where its parts go
        self.tile = 0                                       # neighbouring rows that are folded side by side; 0 for one by one

    def fresh(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def decoded(self, ref: Ref):
        key = ref.key()
        if key not in self._decoded:
            self._decoded[key] = decoded(ref)
        return self._decoded[key]

    def operand(self, value: Value, written: bool = False) -> tuple[str, str]:
        """(name of the memory, how it is read) of a stored value."""
        found = self.operands.get(id(value))
        if found is None:
            found = self.operands[id(value)] = Operand(value, f"m{len(self.operands)}")
        found.written |= written
        return found.name, "peek" if found.written else "load"

    def held_as(self, dtype: str) -> str:
        return {"float16": "float32", "bool": "uint8"}.get(dtype, dtype)

    def converted(self, body: Body, dtype: str, value: str) -> str:
        if dtype == "bool":
            return value
        if dtype == "float16":
            return body.let(f"half_to_float(float_to_half(as_float32({value})))")
        return body.let(f"as_{dtype}({value})")


    # --- source ---------------------------------------------------------------------------------------------------------

    def program(self, chunk: int) -> Program:
        """The kernel: operand 0 is the number of a chunk of `chunk` rows, then come the memories of `operands` in order."""
        code = ["def kernel(args, dimensions, steps, data):"]
        self.together = joints([e for node in self.computed() for e in node.expressions])
        inner: list[str] = []
        columns = self.dims[self.rows:]
        plain = self.rows - 1 if self.tile else self.rows       # rows walked one by one
        depth = 2
        if self.dims:
            inner.append("    chunk = load_int64(args[0], outer * steps[0])")
            inner.append(f"    first = chunk * {chunk}")
            inner.append(f"    last = min(first + {chunk}, {self.dims[0]})")
        if plain:
            inner.append("    for i0 in range(first, last):")
            for d in range(1, plain):
                inner.append("    " * depth + f"for i{d} in range({self.dims[d]}):")
                depth += 1
        else:
            depth = 1
        row = Body(self, inner, depth, {})
        if self.tile:
            self._across(row, columns, chunk)
        else:
            for phase in self.phases:
                self._phase(row, phase, columns)
        memories = [f"{o.name} = args[{k + 1}]" for k, o in enumerate(self.operands.values())]
        code += ["    " + m for m in memories] + [f"    {s}" for s in self.stacks]
        code.append("    for outer in range(dimensions[0]):")
        code += ["    " + line for line in inner]
        values = [o.value for o in self.operands.values()]
        if any(v.dtype in FLOATING for v in values):
            code.append("    clear_status()")
        sizes = {n for v in values for n in v.shape}
        if len(values) > MOST_MEMORIES or len(sizes) > MOST_SIZES:
            raise Untraceable(f"a kernel of {len(values)} blocks of memory with {len(sizes)} sizes")
        signature = ",".join(["()", *(core(v) for v in values)]) + "->()"
        return Program(self.name, "\n".join(code) + "\n", functions=self.functions, inputs=("int64", *(v.dtype for v in values)),
                       outputs=("int8",), signature=signature, fastmath=self.fast)

    def computed(self) -> list[Map]:
        """The maps of this kernel, those that are computed where they are read included."""
        found: dict[int, Map] = {}
        left = [node for phase in self.phases for node in phase]
        while left:
            node = left.pop()
            if node is not None and id(node) not in found:
                found[id(node)] = node
                left += [r.value.node for r in node.reads if id(r.value) not in self.stored and id(r.value) not in self.operands]
        return [node for node in found.values() if isinstance(node, Map)]

    def _phase(self, row: Body, nodes: list, columns: tuple[int, ...]) -> None:
        wide_nodes = [n for n in nodes if self.over_columns(n)]
        if wide_nodes:
            self._columns(row, wide_nodes, columns)
        for node in nodes:
            if node not in wide_nodes:
                self._rowwise(row, node)

    def over_columns(self, node) -> bool:
        """Whether a node walks the columns: folds do, and maps whose values lie over the whole domain."""
        return isinstance(node, Reduce) or any(name and int(name[1:]) >= self.rows for name in self.index_of(node))

    def index_of(self, node) -> tuple[str, ...]:
        """The loop variables of a stored map, one for each dimension of its value."""
        return self.variables[id(node)]

    def _rowwise(self, body: Body, node) -> None:
        index = tuple(affine({name: 1}) if name else () for name in self.index_of(node))
        self._store(body, node, index)

    def _store(self, body: Body, node, index) -> None:
        for v in node.values:
            if id(v) in self.stored:
                self.stored.discard(id(v))
                value = body.element(v, index)
                self.stored.add(id(v))
                at: Affine = ()
                for i, s in zip(index, v.strides, strict=True):
                    at = plus(at, i, s)
                name, _ = self.operand(v, written=True)
                body.say(stored(v.dtype, name, text(at, ITEMSIZE[v.dtype]), value))

    def _columns(self, row: Body, nodes: list, columns: tuple[int, ...]) -> None:
        folds = [n for n in nodes if isinstance(n, Reduce)]
        names = [f"i{self.rows + k}" for k in range(len(columns))]
        lanes = _lanes(columns[-1]) if columns and folds else 1
        setups = [_Folding(self, n, lanes) for n in folds]
        for f in setups:
            f.begin(row)
        indent, n = row.indent, columns[-1] if columns else 1
        for k, name in enumerate(names[:-1]):
            whole = self.rows == 0 and k == 0
            row.lines.append("    " * indent + f"for {name} in range({'first, last' if whole else columns[k]}):")
            indent += 1
        whole = self.rows == 0 and len(columns) == 1
        if columns:
            bounds = "first, last" if whole else f"0, {n}"
            if lanes > 1:
                end = "last" if whole else str(n)
                row.lines.append("    " * indent + f"for block in range({bounds}, {lanes}):")
                row.lines.append("    " * (indent + 1) + f"for lane in range(min({lanes}, {end} - block)):")
                row.lines.append("    " * (indent + 2) + f"{names[-1]} = block + lane")
                indent += 2
            else:
                row.lines.append("    " * indent + f"for {names[-1]} in range({bounds}):")
                indent += 1
        body = Body(self, row.lines, indent, row.known)
        for node in nodes:
            if isinstance(node, Reduce):
                setups[folds.index(node)].step(body, names, columns)
            else:
                self._rowwise(body, node)
        for f in setups:
            f.finish(row, math.prod(columns))


    def _across(self, row: Body, columns: tuple[int, ...], chunk: int) -> None:
        """Folds over leading dimensions: a tile of neighbouring rows side by side, so that memory is walked in its own order.

        Their states lie in lanes, which go into wider totals every BLOCK columns.
        """
        single = self.rows == 1
        count = self.dims[self.rows - 1]
        width = str(self.tile) if count % self.tile == 0 and (not single or chunk % self.tile == 0) else "width"
        nodes = [n for phase in self.phases for n in phase]
        setups = {id(n): _Across(self, n, self.tile) for n in nodes if isinstance(n, Reduce)}
        row.say(f"for tile in range({'first, last' if single else f'0, {count}'}, {self.tile}):")
        tile = Body(self, row.lines, row.indent + 1, row.known)
        if width == "width":
            tile.say(f"width = min({self.tile}, {'last' if single else count} - tile)")

        def lanes(outer: Body) -> Body:
            outer.say(f"for lane in range({width}):")
            inside = Body(self, outer.lines, outer.indent + 1, {})
            inside.say(f"i{self.rows - 1} = tile + lane")
            return inside
        start = lanes(tile)
        for f in setups.values():
            f.begin(start)
        names = [f"i{self.rows + k}" for k in range(len(columns))]
        block = tile
        for name, n in zip(names[:-1], columns, strict=False):
            block.say(f"for {name} in range({n}):")
            block = Body(self, row.lines, block.indent + 1, {})
        block.say(f"for block in range(0, {columns[-1]}, {BLOCK}):")
        block = Body(self, row.lines, block.indent + 1, {})
        if any(f.narrow for f in setups.values()):
            opening = lanes(block)
            for f in setups.values():
                if f.narrow:
                    f.open(opening)
        block.say(f"for {names[-1]} in range(block, min(block + {BLOCK}, {columns[-1]})):")
        body = lanes(Body(self, row.lines, block.indent + 1, {}))
        for node in nodes:
            if isinstance(node, Reduce):
                setups[id(node)].step(body, names, columns)
            elif self.over_columns(node):
                self._rowwise(body, node)
        if any(f.narrow for f in setups.values()):
            closing = lanes(block)
            for f in setups.values():
                f.close(closing)
        end = lanes(tile)
        for node in nodes:
            if isinstance(node, Reduce):
                setups[id(node)].finish(end, math.prod(columns))
            elif not self.over_columns(node):
                self._rowwise(end, node)


def _lanes(n: int) -> int:
    return 1 if n < 32 else 16 if n < 256 else 64


class _Folding:
    """A fold over the columns of a row: running states in lanes, then one total."""

    def __init__(self, nest: Nest, node: Reduce, lanes: int):
        self.nest, self.node, self.lanes, self.k = nest, node, lanes, nest.folds
        nest.folds += 1
        op = node.fold
        self.dtype = node.reads[0].dtype
        self.state, self.wide = states(op, self.dtype)
        own = fold_functions(op.kernel or op, self.dtype, self.wide)
        self.lift, self.combine, self.end = (f"{word}_{op.name}_{self.dtype}" for word in own)
        nest.functions.update(zip((self.lift, self.combine, self.end), own.values(), strict=True))
        self.types = self.state if lanes > 1 else self.wide
        start = [f"as_{d}({v!r})" for d, v in zip(self.types, op.start(self.dtype), strict=True)]
        self.neutral = start[0] if len(start) == 1 else f"({', '.join(start)})"

    def _slots(self, lane: str) -> list[str]:
        return [f"s{self.k}_{c}, {lane} * {ITEMSIZE[d]}" for c, d in enumerate(self.types)]

    def _peek(self, lane: str) -> str:
        places = [place.split(", ", 1) for place in self._slots(lane)]
        values = [f"as_{d}({loaded(d, *place, 'peek')})" for d, place in zip(self.types, places, strict=True)]
        return values[0] if len(values) == 1 else f"({', '.join(values)})"

    def _keep(self, body: Body, lane: str, value: str) -> None:
        several = len(self.types) > 1
        for c, (d, place) in enumerate(zip(self.types, self._slots(lane), strict=True)):
            body.say(stored(d, *place.split(", ", 1), f"{value}[{c}]" if several else value))

    def _as(self, types: tuple[str, ...], value: str) -> str:
        return f"as_{types[0]}({value})" if len(types) == 1 else "(" + ", ".join(
            f"as_{d}({value}[{c}])" for c, d in enumerate(types)) + ")"

    def begin(self, row: Body) -> None:
        if self.lanes == 1:
            row.say(f"total{self.k} = {self.neutral}")
            return
        for c, d in enumerate(self.types):
            self.nest.stacks.append(f"s{self.k}_{c} = stack({self.lanes * ITEMSIZE[d]})")
        row.say(f"begin{self.k} = {self.neutral}")
        row.say(f"for lane in range({self.lanes}):")
        self._keep(Body(self.nest, row.lines, row.indent + 1, {}), "lane", f"begin{self.k}")

    def step(self, body: Body, names: list[str], columns: tuple[int, ...]) -> None:
        node = self.node
        index = tuple(affine({n: 1}) for n in self.nest.fold_index[id(node)])
        x = body.read(node.reads[0], index)
        extras = [body.read(r.broadcast(tuple(1 if d in node.dims else n for d, n in enumerate(node.reads[0].shape))), tuple(
            () if d in node.dims else i for d, i in enumerate(index))) for r in node.reads[1:]]
        position: Affine = ()
        for name, n in zip(names, columns, strict=True):
            position = plus(affine({k: c * n for k, c in position}), affine({name: 1}))
        lifted = body.let(f"{self.lift}({', '.join([x, text(position), *extras])})")
        self.merge(body, body.let(self._as(self.types, lifted)))

    def merge(self, body: Body, state: str) -> None:
        """A state into the running one."""
        if self.lanes == 1:
            body.say(f"merged{self.k} = {self.combine}(total{self.k}, {state})")
            body.say(f"total{self.k} = {self._as(self.types, f'merged{self.k}')}")
            return
        body.say(f"merged{self.k} = {self.combine}({self._peek('lane')}, {state})")
        body.say(f"kept{self.k} = {self._as(self.types, f'merged{self.k}')}")
        self._keep(body, "lane", f"kept{self.k}")

    def finish(self, row: Body, count: int) -> None:
        """The lanes into one, and the result into the row's register and its memory."""
        node, total = self.node, f"total{self.k}"
        if self.lanes > 1:
            width = self.lanes // 2
            while width >= 8:
                row.say(f"for lane in range({width}):")
                inside = Body(self.nest, row.lines, row.indent + 1, {})
                inside.say(f"merged{self.k} = {self.combine}({self._peek('lane')}, {self._peek(f'(lane + {width})')})")
                inside.say(f"kept{self.k} = {self._as(self.types, f'merged{self.k}')}")
                self._keep(inside, "lane", f"kept{self.k}")
                width //= 2
            for lane in range(width * 2):
                row.say(f"part{self.k} = {self._peek(str(lane))}")
                wide = self._as(self.wide, f"part{self.k}")
                if lane:
                    row.say(f"merged_total{self.k} = {self.combine}({total}, {wide})")
                    row.say(f"{total} = {self._as(self.wide, f'merged_total{self.k}')}")
                else:
                    row.say(f"{total} = {wide}")
        pieces = self.nest.pieces.get(id(node))
        if pieces is not None:
            for c, v in enumerate(pieces):
                memory, _ = self.nest.operand(v, written=True)
                row.say(stored(v.dtype, memory, f"chunk * {ITEMSIZE[v.dtype]}", f"{total}[{c}]" if len(pieces) > 1 else total))
            return
        self.give(row, total, count)

    def give(self, row: Body, total: str, count: int) -> None:
        """The result of a row from its total: into a register, and into memory where it is stored."""
        node = self.node
        result = row.let(f"{self.end}({total}, {count})")
        for c, v in enumerate(node.values):
            one = self.nest.converted(row, v.dtype, f"{result}[{c}]" if len(node.values) > 1 else result)
            self.nest.held[id(v)] = lambda index, one=one: one
            if id(v) in self.nest.stored:
                at: Affine = ()
                kept = [i for d, i in enumerate(self.nest.fold_index[id(node)]) if d not in node.dims]
                strides: list[int] = list(v.strides)
                if len(strides) != len(kept):       # folded dimensions kept at size 1, or dropped
                    strides = [s for d, s in enumerate(v.strides) if d not in node.dims]
                for name, s in zip(kept, strides, strict=True):
                    at = plus(at, affine({name: 1}), s)
                memory, _ = self.nest.operand(v, written=True)
                row.say(stored(v.dtype, memory, text(at, ITEMSIZE[v.dtype]), one))


class _Across(_Folding):
    """A fold of neighbouring rows side by side: a running state for each, and a wider total where the running one is narrow."""

    def __init__(self, nest: Nest, node: Reduce, tile: int):
        super().__init__(nest, node, tile)
        self.narrow = self.state != self.wide
        self.types = self.state
        for c, (narrow, wide) in enumerate(zip(self.state, self.wide, strict=True)):
            nest.stacks.append(f"s{self.k}_{c} = stack({tile * ITEMSIZE[narrow]})")
            if self.narrow:
                nest.stacks.append(f"w{self.k}_{c} = stack({tile * ITEMSIZE[wide]})")

    def _slots(self, lane: str) -> list[str]:
        letter = "s" if self.types is self.state else "w"
        return [f"{letter}{self.k}_{c}, {lane} * {ITEMSIZE[d]}" for c, d in enumerate(self.types)]

    def _totals(self) -> None:
        """From here on the states meant are the totals."""
        self.types = self.wide if self.narrow else self.state

    def begin(self, row: Body) -> None:
        """The totals of a tile from the neutral state."""
        self._totals()
        self.open(row)
        self.types = self.state

    def open(self, body: Body) -> None:
        """The lanes of a block from the neutral state."""
        start = [f"as_{d}({v!r})" for d, v in zip(self.types, self.node.fold.start(self.dtype), strict=True)]
        body.say(f"begin{self.k} = {start[0] if len(start) == 1 else '(' + ', '.join(start) + ')'}")
        self._keep(body, "lane", f"begin{self.k}")

    def close(self, body: Body) -> None:
        """Lanes of a block into the totals."""
        if not self.narrow:
            return
        body.say(f"part{self.k} = {self._peek('lane')}")
        body.say(f"wide{self.k} = {self._as(self.wide, f'part{self.k}')}")
        self._totals()
        body.say(f"merged_total{self.k} = {self.combine}({self._peek('lane')}, wide{self.k})")
        body.say(f"kept_total{self.k} = {self._as(self.wide, f'merged_total{self.k}')}")
        self._keep(body, "lane", f"kept_total{self.k}")
        self.types = self.state

    def finish(self, row: Body, count: int) -> None:
        self._totals()
        row.say(f"total{self.k} = {self._peek('lane')}")
        self.give(row, f"total{self.k}", count)
        self.types = self.state
