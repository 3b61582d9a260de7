"""Improvements of a traced graph: constants, copies seen through, equal nodes once, nothing that nobody wants."""
from __future__ import annotations

from kernels.symbol import Symbol, simplify

from .graph import Call, Graph, Guard, Map, Node, Put, Reduce, Ref, Value, symbol


def improve(graph: Graph) -> Graph:
    """All passes, in place."""
    forward_copies(graph)
    fold_constants(graph)
    share_equal(graph)
    remove_dead(graph)
    turn_products(graph)
    drop_copies(graph)
    return graph


# --- views in index space ---------------------------------------------------------------------------------------------

def decoded(ref: Ref) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    """A view in the index space of its value: (index of the first element, how the index grows along each dimension of the view).

    None where the view runs across dimensions of the value (a reshape of a part), so that no such index exists.
    """
    value = ref.value
    order = sorted((d for d, n in enumerate(value.shape) if n > 1), key=lambda d: -abs(value.strides[d]))
    if any(value.strides[d] <= 0 for d in order):
        return None

    def split(distance: int) -> list[int] | None:
        found = [0] * len(value.shape)
        sign, rest = (1, distance) if distance >= 0 else (-1, -distance)
        for d in order:
            found[d], rest = sign * (rest // value.strides[d]), rest % value.strides[d]
        return None if rest else found
    start = split(ref.offset)
    if start is None:
        return None
    steps = []
    for n, s in zip(ref.shape, ref.strides, strict=True):
        step = split(s) if n > 1 else [0] * len(value.shape)
        if step is None:
            return None
        steps.append(tuple(step))
    for d, n in enumerate(value.shape):
        moves = [(m - 1) * step[d] for m, step in zip(ref.shape, steps, strict=True)]
        if start[d] + sum(x for x in moves if x < 0) < 0 or start[d] + sum(x for x in moves if x > 0) >= n:
            return None
    return tuple(start), steps


def composed(outer: Ref, inner: Ref) -> Ref | None:
    """`outer`, a view of a value that is a copy of `inner`, as a view of inner's own value; None where there is no such view."""
    at = decoded(outer)
    if at is None:
        return None
    start, steps = at
    offset = inner.offset + sum(i * s for i, s in zip(start, inner.strides, strict=True))
    strides = tuple(sum(i * s for i, s in zip(step, inner.strides, strict=True)) for step in steps)
    return Ref(inner.value, offset, outer.shape, strides)


# --- passes -----------------------------------------------------------------------------------------------------------

def forward_copies(graph: Graph) -> None:
    """Read what was copied, not the copy. Values that leave the program keep the copy that makes them."""
    source: dict[Value, Ref] = {}

    def seen_through(ref: Ref) -> Ref:
        while ref.value in source:
            found = composed(ref, source[ref.value])
            if found is None:
                break
            ref = found
        return ref
    for node in graph.nodes:
        node.reads = [seen_through(r) for r in node.reads]
        if isinstance(node, Put) and len(node.reads) == 1 and node.place.covers() and node.fill is None:
            source[node.values[0]] = node.reads[0]
        elif isinstance(node, Map):
            for value, e in zip(node.values, node.expressions, strict=True):
                if isinstance(e, Symbol) and e.name:
                    read = node.reads[int(e.name[1:])]
                    if read.dtype == value.dtype == node.compute:
                        source[value] = read


def turn_products(graph: Graph) -> None:
    """Matrix products that are read transposed only (gradients of weights) are computed so: y' x' instead of (x y)'."""
    leaving = {id(r.value) for r in graph.wanted()}
    uses: dict[int, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        for k, r in enumerate(node.reads):
            uses.setdefault(id(r.value), []).append((node, k))
    for node in graph.nodes:
        if not isinstance(node, Call) or node.operator.name != "matmul" or node.many or len(node.reads) != 2:
            continue
        v = node.values[0]
        found = uses.get(id(v), [])
        shape, strides = v.shape[::-1], v.strides[::-1]
        if len(v.shape) != 2 or v.strides != (v.shape[1], 1) or 1 in v.shape or not found or id(v) in leaving or any(
                (r := n.reads[k]).offset or r.shape != shape or r.strides != strides for n, k in found):
            continue
        turned = Value(shape, (shape[1], 1), v.dtype, node)
        node.values = [turned]
        node.reads = [Ref(r.value, r.offset, r.shape[::-1], r.strides[::-1]) for r in reversed(node.reads)]
        for n, k in found:
            n.reads[k] = turned.whole()


def drop_copies(graph: Graph) -> None:
    """A value that leaves as the copy of another one leaves itself, where that was made here and does not leave on its own."""
    leaving = {id(r.value) for r in graph.wanted()}
    for node in list(graph.nodes):
        if not isinstance(node, Map) or len(node.values) != 1 or id(node.values[0]) not in leaving:
            continue
        v, e = node.values[0], node.expressions[0]
        if not isinstance(e, Symbol) or not e.name:
            continue
        read = node.reads[int(e.name[1:])]
        made = read.value
        fresh = isinstance(made.node, (Map, Reduce)) or (isinstance(made.node, Call) and made.node.operator.name == "matmul")
        if not fresh or id(made) in leaving or not read.covers() or (made.shape, made.strides, made.dtype) != (
                v.shape, v.strides, v.dtype) or node.compute != v.dtype:
            continue
        leaving.add(id(made))
        graph.nodes.remove(node)
        for n in graph.nodes:
            n.reads = [_of(r, v, made) for r in n.reads]
        graph.results = [_of(r, v, made) for r in graph.results]
        graph.writes = [(old, made if new is v else new) for old, new in graph.writes]


def _of(ref: Ref, old: Value, new: Value) -> Ref:
    return Ref(new, ref.offset, ref.shape, ref.strides) if ref.value is old else ref


def fold_constants(graph: Graph) -> None:
    """Numbers in place of captured values of one element that never change."""
    for node in graph.nodes:
        if not isinstance(node, Map):
            continue
        numbers = {f"x{k}": r.value.array.reshape(-1)[0].item() for k, r in enumerate(node.reads) if _uniform(r.value)}
        if numbers:
            _substitute(node, numbers)


def _uniform(value: Value) -> bool:
    """Whether a value is one number everywhere, always."""
    if not value.constant or not value.size:
        return False
    flat = value.array.reshape(-1)
    return value.size == 1 or bool((flat == flat[0]).all())


def _substitute(node: Map, numbers: dict) -> None:
    kept = [k for k in range(len(node.reads)) if f"x{k}" not in numbers]
    names = {f"x{k}": symbol(n) for n, k in enumerate(kept)} | numbers

    def replaced(e):
        if not isinstance(e, Symbol):
            return e
        if e.name:
            return names[e.name]
        return simplify(e.operator, [replaced(o) for o in e.operands])
    node.expressions = [replaced(e) for e in node.expressions]
    node.reads = [node.reads[k] for k in kept]


def share_equal(graph: Graph) -> None:
    """Nodes that compute the same from the same once. Values that leave the program stay apart."""
    leaving = {id(r.value) for r in graph.wanted()}
    known: dict[tuple, Node] = {}
    same: dict[int, Value] = {}
    kept = []
    for node in graph.nodes:
        node.reads = [Ref(same.get(id(r.value), r.value), r.offset, r.shape, r.strides) for r in node.reads]
        key = _key(node)
        if key is not None and key in known and not any(id(v) in leaving for v in node.values):
            for mine, theirs in zip(node.values, known[key].values, strict=True):
                same[id(mine)] = theirs
            continue
        if key is not None:
            known.setdefault(key, node)
        kept.append(node)
    graph.nodes = kept


def _key(node: Node) -> tuple | None:
    reads = tuple(r.key() for r in node.reads)
    values = tuple((v.shape, v.strides, v.dtype) for v in node.values)
    if isinstance(node, Map):
        return "map", reads, values, node.compute, tuple(e.key() if isinstance(e, Symbol) else (type(e), repr(e))
                                                         for e in node.expressions)
    if isinstance(node, Reduce):
        return "reduce", reads, values, node.fold.name, node.dims
    if isinstance(node, Put):
        return "put", reads, values, node.place.key()[1:], repr(node.fill)
    return None


def remove_dead(graph: Graph) -> None:
    """Drop nodes whose values nobody reads; guards and what writes memory stay."""
    needed = {id(r.value) for r in graph.wanted()}
    kept = []
    for node in reversed(graph.nodes):
        if isinstance(node, Guard) or any(id(v) in needed for v in node.values):
            needed.update(id(r.value) for r in node.reads)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.captured = [(v, owner) for v, owner in graph.captured if owner is not None or id(v) in needed]
    for node in graph.nodes:
        if isinstance(node, Map):
            live = [k for k, v in enumerate(node.values) if id(v) in needed]
            if len(live) < len(node.values):
                node.values = [node.values[k] for k in live]
                node.expressions = [node.expressions[k] for k in live]
                for k, v in enumerate(node.values):
                    v.output = k
                _drop_unused(node)


def _drop_unused(node: Map) -> None:
    from kernels.symbol import inputs_of
    used = set(inputs_of(node.expressions))
    if len(used) < len(node.reads):
        kept = [k for k in range(len(node.reads)) if f"x{k}" in used]
        names = {f"x{k}": symbol(n) for n, k in enumerate(kept)}

        def again(e):
            return e if not isinstance(e, Symbol) else names[e.name] if e.name else Symbol("", e.operator,
                                                                                          [again(o) for o in e.operands])
        node.expressions = [again(e) for e in node.expressions]
        node.reads = [node.reads[k] for k in kept]


