"""Function transforms: derivatives, Jacobians and batches of Python functions on tensors, as `torch.func` and JAX name them.

Every transform runs the function on fresh inputs that require gradients and reads the tape, so transforms nest in any order and to
any depth, and stand inside `engine.compile`. Forward mode is `engine.forward`; batches are `engine.compiler.batching`.
"""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import tree
from .autograd.modes import enable_grad
from .errors import DTypeError
from .forward import push, watching
from .functions.registry import PUBLIC
from .saved import Identity
from .tape import Node, clock, edge_of, modes, source_of
from .tensor import Tensor, shared_counter
from .walk import grad as _gradients

ArgNums = int | tuple[int, ...]
_GRAD = "grad_and_value(f)(*args)"          # how messages name the transforms
_VJP = "vjp(f, *primals)"
_JVP = "jvp(f, primals, tangents)"


# --- inputs and results -------------------------------------------------------------------------------------------------

def _fresh(t: Tensor, forward: bool) -> tuple[Tensor, Tensor]:
    """Two tensors over the memory of `t`: the one to differentiate with respect to, where this transform's history begins, and
    the one that the function gets, which it may write to in forward mode. An outer derivative goes through both.
    """
    if t._kind.dtype.category < 2:
        if forward:
            raise ValueError(f"Expected primal to be floating point or complex, but got: {t.dtype}")
        raise DTypeError("only Tensors of floating point dtype can require gradients")
    start = t.data
    start._counter = shared_counter(t)
    start._inference = False
    if t.requires_grad:
        _continue(start, edge_of(t))
    else:
        start._needs, start.transform = True, _nesting.level
        if not forward:
            return start, start
    given = start.detach()
    _continue(given, edge_of(start))
    return start, given


def _continue(t: Tensor, edge: Any) -> None:
    """Let a tensor's history go on at an edge, by a node of its own."""
    node = object.__new__(Identity)
    node.edges, node.hooks, node.order = (edge,), None, next(clock)
    t._node, t._needs = node, True


class _Nesting(threading.local):
    """How many transforms this thread is inside of."""

    level = 0


_nesting = _Nesting()


@contextlib.contextmanager
def _inside() -> Iterator[int]:
    """Run a function one level deeper; gives the level."""
    _nesting.level += 1
    inference, modes.inference = modes.inference, False         # what a transform runs is always recorded
    try:
        with enable_grad():
            yield _nesting.level
    finally:
        modes.inference = inference
        _nesting.level -= 1


def _numbers(args: tuple, argnums: ArgNums) -> tuple[int, ...]:
    """`argnums` as a tuple of distinct, non-negative positions in `args`. RuntimeError where they do not fit."""
    if not isinstance(argnums, (int, tuple)) or (isinstance(argnums, tuple) and not all(isinstance(k, int) for k in argnums)):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    count = len(args)
    for k in numbers:
        if not -count <= k < count:
            raise RuntimeError(f"Got argnum={k}, but only {count} positional inputs")
    found = tuple([k % count for k in numbers])
    if len(set(found)) < len(found):
        raise RuntimeError(f"argnums elements must be unique, got {found}")
    return found


def _inputs(args: tuple, argnums: ArgNums, forward: bool = False) -> tuple[tuple, list[Tensor], Any]:
    """The arguments with fresh tensors at `argnums`, the tensors where their history begins, and their structure."""
    starts: list[Tensor] = []
    made = list(args)
    parts = []
    for k in _numbers(args, argnums):
        leaves: list = []
        structure = tree.flatten(args[k], leaves)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                if forward:
                    raise RuntimeError(f"jvp(f, primals, tangents): Expected primals to only contain Tensors, got {type(leaf)}")
                raise ValueError(f"Thing passed to transform API must be Tensor, got {type(leaf)}")
        pairs = [_fresh(leaf, forward) for leaf in leaves]
        starts += [start for start, _ in pairs]
        made[k] = tree.unflatten(structure, iter([given for _, given in pairs]))
        parts.append(structure)
    return tuple(made), starts, parts[0] if isinstance(argnums, int) else (tuple, None, tuple(parts))


def _closed(tensors: Sequence[Tensor | None], level: int, outer: bool) -> list:
    """Results without the history that ends in inputs of this transform or of deeper ones; what is further out stays."""
    if outer and any(t is not None and _reaches_out(t, level) for t in tensors):
        return list(tensors)
    return [t if t is None or not t.requires_grad else t.detach() for t in tensors]


def _reaches_out(t: Tensor, level: int) -> bool:
    """Whether a tensor's history leads further than to the inputs of transforms of this level or deeper ones."""
    stack, seen = [edge_of(t)], set()
    while stack:
        edge = stack.pop()
        if edge is None:
            continue
        if not isinstance(edge, Node):
            if getattr(edge, "transform", 0) < level:
                return True
            continue
        node = source_of(edge)[0]
        if node not in seen:
            seen.add(node)
            stack.extend(node.edges)
    return False


def _value(name: str, function: Callable, args: tuple, kwargs: dict, has_aux: bool) -> tuple[Any, Any]:
    result = function(*args, **kwargs)
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def _scalar(y: Any) -> Tensor:
    if not isinstance(y, Tensor):
        raise RuntimeError(f"{_GRAD}: Expected f(*args) to return a Tensor, got {type(y)}")
    if y.ndim:
        raise RuntimeError(f"{_GRAD}: Expected f(*args) to return a scalar Tensor, got tensor with {y.ndim} dims. Maybe you "
                           "wanted to use the vjp or jacrev APIs instead?")
    return y


def _aux(aux: Any, level: int, outer: bool) -> Any:
    return tree.mapped(lambda t: _closed([t], level, outer)[0] if isinstance(t, Tensor) else t, aux)


# --- reverse mode -------------------------------------------------------------------------------------------------------

def value_and_grad(func: Callable, argnums: ArgNums = 0, has_aux: bool = False) -> Callable:
    """A function that gives (value, gradient) of a scalar function, the gradient in the structure of its arguments `argnums`.

    With `has_aux` the function returns (value, aux), and the result is ((value, aux), gradient), as in JAX. Errors: RuntimeError
    where the value is no scalar tensor.
    """
    def transformed(*args, **kwargs):
        value, gradient, aux = _value_and_grad(func, argnums, has_aux, args, kwargs)
        return ((value, aux), gradient) if has_aux else (value, gradient)
    return _named(transformed, func)


def grad(func: Callable, argnums: ArgNums = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient of a scalar function; with `has_aux` (gradient, aux). As `torch.func.grad`."""
    def transformed(*args, **kwargs):
        _, gradient, aux = _value_and_grad(func, argnums, has_aux, args, kwargs)
        return (gradient, aux) if has_aux else gradient
    return _named(transformed, func)


def grad_and_value(func: Callable, argnums: ArgNums = 0, has_aux: bool = False) -> Callable:
    """A function that gives (gradient, value), with `has_aux` (gradient, (value, aux)). As `torch.func.grad_and_value`."""
    def transformed(*args, **kwargs):
        value, gradient, aux = _value_and_grad(func, argnums, has_aux, args, kwargs)
        return gradient, (value, aux) if has_aux else value
    return _named(transformed, func)


def _value_and_grad(func: Callable, argnums: ArgNums, has_aux: bool, args: tuple, kwargs: dict) -> tuple[Any, Any, Any]:
    """(value, gradient, aux)."""
    outer = modes.enabled
    with _inside() as level:
        args, inputs, structure = _inputs(args, argnums)
        y, aux = _value(_GRAD, func, args, kwargs, has_aux)
        y = _scalar(y)
        again = outer and _reaches_out(y, level)
        if y.requires_grad:
            found = _gradients(y, inputs, create_graph=again, allow_unused=True)
        else:
            found = (None,) * len(inputs)
        found = [PUBLIC["zeros_like"](t) if g is None else g for g, t in zip(found, inputs, strict=True)]
    found = _closed(found, level, again)
    value = _closed([y], level, again)[0]
    return value, tree.unflatten(structure, iter(found)), _aux(aux, level, again)


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """(output, vjp_fn), with `has_aux` (output, vjp_fn, aux): vjp_fn(cotangents) gives the products with the Jacobian's transpose.

    `vjp_fn` returns a tuple, one for each primal (a single one for a single primal), in the primals' structure.
    """
    outer = modes.enabled
    with _inside() as level:
        args, inputs, structure = _inputs(primals, tuple(range(len(primals)))) if primals else ((), [], (tuple, None, ()))
        y, aux = _value(_VJP, func, args, {}, has_aux)
    leaves: list = []
    shape = tree.flatten(y, leaves)
    _all_tensors(_VJP, leaves)
    for t in leaves:
        if t._kind.dtype.category < 2:
            raise RuntimeError("vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
                               f"{t.dtype}")
    again = outer and any(_reaches_out(t, level) for t in leaves)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> tuple:
        given: list = []
        own = tree.flatten(cotangents, given)
        if own != shape:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                               f"function. cotangents: {_shown(own)}, primal output: {_shown(shape)}")
        recording = modes.enabled and (again or any(g.requires_grad for g in given))
        recording = recording if create_graph is None else create_graph
        pairs = [(t, g) for t, g in zip(leaves, given, strict=True) if t.requires_grad]
        with enable_grad():
            found = _gradients([t for t, _ in pairs], inputs, [g for _, g in pairs], retain_graph=retain_graph or recording,
                               create_graph=recording, allow_unused=True) if pairs else (None,) * len(inputs)
            found = [PUBLIC["zeros_like"](t) if g is None else g for g, t in zip(found, inputs, strict=True)]
        return tree.unflatten(structure, iter(_closed(found, level, recording)))
    value = tree.unflatten(shape, iter(_closed(leaves, level, again)))
    return (value, vjp_fn, _aux(aux, level, again)) if has_aux else (value, vjp_fn)


# --- forward mode -------------------------------------------------------------------------------------------------------

def jvp(func: Callable, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> tuple:
    """(output, tangent of the output), with `has_aux` (output, tangent, aux): the Jacobian times `tangents`, by forward mode."""
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{_JVP}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    first, second = _structure(primals), _structure(tangents)
    if first != second:
        raise RuntimeError(f"{_JVP}: Expected primals and tangents to have the same python structure. For example, if primals "
                           f"is a tuple of 3 tensors, tangents also must be. Got primals with structure {_shown(first)} and "
                           f"tangents with structure {_shown(second)}")
    if first == (tuple, None, ()):
        raise RuntimeError(f"{_JVP}: Expected primals to contain at least one Tensor.")
    for x, t in zip(tree.leaves_of(primals), tree.leaves_of(tangents), strict=True):
        if isinstance(x, Tensor) and isinstance(t, Tensor) and t._array.shape != x._array.shape:
            raise RuntimeError("Trying to set a forward gradient that has a different size than that of the original Tensor, this "
                               f"is not supported. Tensor is of size {list(x.shape)} while the given forward gradient is of size "
                               f"{list(t.shape)}.")
    value, jvp_fn, aux = _linearized(func, primals, has_aux, strict)
    pushed = jvp_fn(*tangents)
    return (value, pushed, aux) if has_aux else (value, pushed)


def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """(output, jvp_fn): the function is run once, `jvp_fn(*tangents)` gives the Jacobian times as many tangents as one likes."""
    if not primals:
        raise TypeError("linearize() needs the primals at which the function is linearized")
    value, jvp_fn, _ = _linearized(func, primals, False, False)

    def linear(*tangents: Any) -> Any:
        for k, (t, x) in enumerate(zip(tree.leaves_of(tangents), tree.leaves_of(primals), strict=False)):
            if isinstance(t, Tensor) and t._kind is not x._kind:
                raise RuntimeError(f"tangent:{k} with dtype {t.dtype} in flattened pytree doesn't match the dtype {x.dtype} of the "
                                   "corresponding primal.")
        return jvp_fn(*tangents)
    return value, linear


def _linearized(func: Callable, primals: tuple, has_aux: bool, strict: bool):
    outer = modes.enabled
    with _inside() as level, watching():
        args, inputs, structure = _inputs(primals, tuple(range(len(primals))), forward=True)
        y, aux = _value(_JVP, func, args, {}, has_aux)
    leaves: list = []
    shape = tree.flatten(y, leaves)
    _all_tensors(_JVP, leaves)
    again = outer and any(_reaches_out(t, level) for t in leaves)

    def jvp_fn(*tangents):
        given: list = []
        own = tree.flatten(tangents, given)
        if own != structure:
            raise RuntimeError(f"Expected the tangents {_shown(own)} to have the same argspec as the primals {_shown(structure)}")
        for k, (t, x) in enumerate(zip(given, inputs, strict=True)):
            if not isinstance(t, Tensor):
                raise RuntimeError(f"{_JVP}: Expected tangents to only contain Tensors, got {type(t)}")
            if t._array.shape != x._array.shape:
                raise RuntimeError(f"tangent:{k} with shape {t.shape} in flattened pytree doesn't match the shape {x.shape} of the "
                                   "corresponding primal.")
        recording = modes.enabled and (again or any(t.requires_grad for t in given))
        before = modes.enabled
        modes.enabled = recording
        try:
            with watching():
                found = push(leaves, inputs, given)
        finally:
            modes.enabled = before
        if strict and any(t is None for t in found):
            raise RuntimeError("jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This is not "
                               "allowed with strict=True.")
        found = [PUBLIC["zeros_like"](y) if t is None else t for t, y in zip(found, leaves, strict=True)]
        return tree.unflatten(shape, iter(_closed(found, level, recording)))
    value = tree.unflatten(shape, iter(_closed(leaves, level, again)))
    return value, jvp_fn, _aux(aux, level, again)


def _all_tensors(name: str, leaves: list) -> None:
    if not leaves or leaves == [None]:
        raise RuntimeError(f"{name}: Expected f to be a function that has non-empty output (got output = {leaves})")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(f"{name}: expected f(*primals) to return only tensors, got unsupported type {type(leaf)}")


def _shown(structure: Any) -> str:
    """A structure as messages show it: `(*, {'a': *})`."""
    if structure is tree.LEAF:
        return "*"
    cls, names, parts = structure
    inner = [_shown(p) for p in parts]
    if names is not None:
        return "{" + ", ".join(f"{n!r}: {p}" for n, p in zip(names, inner, strict=True)) + "}"
    return f"[{', '.join(inner)}]" if issubclass(cls, list) else f"({', '.join(inner)}{',' * (len(inner) == 1)})"


# --- Jacobians and Hessians ---------------------------------------------------------------------------------------------

def jacrev(func: Callable, argnums: ArgNums = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Callable:
    """The Jacobian by reverse mode: shape of the output, then shape of the input; nested as output and `argnums` are.

    Rows are computed one by one, so that memory does not grow with `chunk_size`, which is there for PyTorch's programs. Errors:
    RuntimeError for complex inputs, whose Jacobian is no complex matrix; ValueError for a `chunk_size` below one.
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    def transformed(*args, **kwargs):
        numbers = _numbers(args, argnums)
        chosen = tuple(args[k] for k in numbers)
        _only_real("jacrev", chosen)

        def partial(*values):
            full = list(args)
            for k, v in zip(numbers, values, strict=True):
                full[k] = v
            return func(*full, **kwargs)
        found = vjp(partial, *chosen, has_aux=has_aux)
        value, vjp_fn = found[0], found[1]
        leaves: list = []
        shape = tree.flatten(value, leaves)
        inputs = tree.leaves_of(chosen)
        rows = []
        for k, y in enumerate(leaves):
            columns = []
            for e in _basis(y):
                cotangents = [e if j == k else PUBLIC["zeros_like"](z) for j, z in enumerate(leaves)]
                columns.append(tree.leaves_of(vjp_fn(tree.unflatten(shape, iter(cotangents)))))
            blocks = [_assembled([c[j] for c in columns], y, x) for j, x in enumerate(inputs)]
            rows.append(_arranged(blocks, chosen, argnums))
        result = tree.unflatten(shape, iter(rows))
        return (result, found[2]) if has_aux else result
    return _named(transformed, func)


def jacfwd(func: Callable, argnums: ArgNums = 0, has_aux: bool = False, *, randomness: str = "error") -> Callable:
    """The Jacobian by forward mode; as `jacrev` otherwise, and faster where there are fewer inputs than outputs.

    The function runs once, so that random numbers are the same along all directions, whatever `randomness` says.
    """
    _check_randomness(randomness)

    def transformed(*args, **kwargs):
        numbers = _numbers(args, argnums)
        chosen = tuple(args[k] for k in numbers)
        _only_real("jacfwd", chosen)

        def partial(*values):
            full = list(args)
            for k, v in zip(numbers, values, strict=True):
                full[k] = v
            return func(*full, **kwargs)
        value, jvp_fn, aux = _linearized(partial, chosen, has_aux, False)
        leaves: list = []
        shape = tree.flatten(value, leaves)
        inputs: list = []
        structure = tree.flatten(chosen, inputs)
        columns: list[list] = []                # for each input the output tangents along each of its elements
        for k, x in enumerate(inputs):
            own = []
            for e in _basis(x):
                tangents = [e if j == k else PUBLIC["zeros_like"](z) for j, z in enumerate(inputs)]
                own.append(tree.leaves_of(jvp_fn(*tree.unflatten(structure, iter(tangents)))))
            columns.append(own)
        rows = []
        for j, y in enumerate(leaves):
            blocks = []
            for x, own in zip(inputs, columns, strict=True):
                if own:
                    stacked = PUBLIC["stack"]([c[j] for c in own], -1)
                    blocks.append(stacked.reshape((*y.shape, *x.shape)))
                else:
                    blocks.append(y.new_zeros((*y.shape, *x.shape)))
            rows.append(_arranged(blocks, chosen, argnums))
        result = tree.unflatten(shape, iter(rows))
        return (result, aux) if has_aux else result
    return _named(transformed, func)


def _only_real(name: str, chosen: tuple) -> None:
    for k, t in enumerate(tree.leaves_of(chosen)):
        if isinstance(t, Tensor) and t.is_complex():
            raise RuntimeError(f"{name}: Expected all inputs to be real but received complex tensor at flattened input idx: {k}")


def _check_randomness(randomness: str) -> None:
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")


def _basis(x: Tensor) -> list[Tensor]:
    """The unit tensors of a shape."""
    count = x.numel()
    if not count:
        return []
    return list(PUBLIC["eye"](count, dtype=x.dtype, device=x.device).reshape(count, *x.shape))


def _assembled(rows: list, y: Tensor, x: Tensor) -> Tensor:
    if not rows:
        return x.new_zeros((*y.shape, *x.shape))
    return PUBLIC["stack"](rows).reshape((*y.shape, *x.shape))


def _arranged(blocks: list, chosen: tuple, argnums: ArgNums) -> Any:
    """Blocks, one an input tensor, in the structure of the arguments `argnums`."""
    result = tree.unflatten(_structure(chosen), iter(blocks))
    return result[0] if isinstance(argnums, int) else result


def _structure(value: Any) -> Any:
    return tree.flatten(value, [])


def hessian(func: Callable, argnums: ArgNums = 0) -> Callable:
    """The Hessian of a scalar function, forward mode over reverse mode: jacfwd(jacrev(func))."""
    return jacfwd(jacrev(func, argnums), argnums)


def hvp(func: Callable, primals: tuple, tangents: tuple) -> Any:
    """The Hessian of a scalar function times `tangents`, without the Hessian: forward mode over `grad`."""
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(func, argnums), primals, tangents)[1]


# --- modules and batches ------------------------------------------------------------------------------------------------

def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = (), kwargs: dict | None = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """Call a module with these tensors in place of its parameters and buffers (by name; a dict, or several)."""
    given = parameter_and_buffer_dicts
    if not isinstance(given, (dict, list, tuple)):
        raise ValueError(f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(given)}")
    if not isinstance(given, dict):
        if not all(isinstance(one, dict) for one in given):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        merged: dict = {}
        for one in given:
            if merged.keys() & one.keys():
                raise ValueError(f"{sorted(merged.keys() & one.keys())} appeared in multiple dictionaries; behavior of "
                                 "functional call is ambiguous")
            merged.update(one)
        given = merged
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    unknown = [n for n in given if n not in own]
    missing = [n for n in own if n not in given]
    values = dict(given)
    if tie_weights:
        for name, tensor in own.items():
            if name not in values:
                tied = next((n for n in given if n in own and own[n] is tensor), None)
                if tied is not None:
                    values[name] = given[tied]
    missing = [n for n in missing if n not in values]
    if strict and (unknown or missing):
        lines = [f"Error(s) in reparametrizing for {type(module).__name__}:"]
        if unknown:
            lines.append("Unexpected key(s): " + ", ".join(f"'{n}'" for n in unknown) + ".")
        if missing:
            lines.append("Missing key(s): " + ", ".join(f"'{n}'" for n in missing) + ".")
        raise RuntimeError("\n\t".join(lines))
    for name in unknown:
        del values[name]
    for value in values.values():
        if not isinstance(value, Tensor):
            raise TypeError(f"{value!r} is not an instance of engine.Tensor")
    undo = []
    try:
        for name, value in values.items():
            path, _, last = name.rpartition(".")
            holder = module.get_submodule(path)
            table = holder._parameters if last in holder._parameters else holder._buffers
            undo.append((table, last, table[last]))
            table[last] = value
        args = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*args, **(kwargs or {}))
    finally:
        for table, last, before in reversed(undo):
            table[last] = before


def stack_module_state(models: Sequence) -> tuple[dict, dict]:
    """(parameters, buffers) of models of one class, each name's tensors stacked; for `vmap` over an ensemble."""
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")

    def stacked(named: list[dict]) -> dict:
        return {n: PUBLIC["stack"]([one[n] for one in named]).detach() for n in named[0]}
    parameters = stacked([dict(m.named_parameters()) for m in models])
    for name, t in parameters.items():
        t.requires_grad_(dict(models[0].named_parameters())[name].requires_grad)
    return parameters, stacked([dict(m.named_buffers()) for m in models])


def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Callable:
    """A function over batches: `func` sees one element of the dimension `in_dims` of its arguments; results stack at `out_dims`.

    The function runs once, on the first element; the program that it traces is then run for the whole batch at once, so there is no
    loop in Python. `in_dims` is an int, None (not batched), or a nest of them. Errors: ValueError for dimensions that do not
    fit, RuntimeError where the function looks at a batched value (`if x.sum() > 0`) or draws random numbers.
    """
    from .compiler.batching import vmapped
    _check_randomness(randomness)
    return _named(vmapped(func, in_dims, out_dims, randomness, chunk_size), func)


def _named(transformed: Callable, func: Callable) -> Callable:
    for word in ("__name__", "__doc__", "__module__", "__qualname__"):
        if hasattr(func, word):
            setattr(transformed, word, getattr(func, word))
    transformed.__wrapped__ = func
    return transformed


__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacrev", "jvp", "linearize",
           "stack_module_state", "value_and_grad", "vjp", "vmap"]
