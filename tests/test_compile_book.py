"""compile over the whole book: every record, compiled, equals the record called eagerly, in values, dtypes, strides and gradients.

Many records share one compiled function, so that few programs are made. Values of records have their own oracles in `test_book`,
whose samples are used here.
"""
import numpy as np
import pytest
from test_book import FOLDS, POINTWISE, STRUCTURAL, broadcasting, draw, operands

import engine
from engine.tensor import from_array

GROUP = 24


def groups(ops):
    return [pytest.param(ops[k:k + GROUP], id=f"{ops[k].name}-{ops[min(k + GROUP, len(ops)) - 1].name}")
            for k in range(0, len(ops), GROUP)]


def kind_of(op) -> str:
    return "float64" if "float64" in op.dtypes else op.dtypes[-1]


def flat(results) -> list:
    return [t for r in results for t in (r if isinstance(r, (tuple, list)) else (r,))]


def leaves(arrays, needs) -> list:
    return [from_array(a.copy() if a.flags.owndata else a).requires_grad_(bool(n) and a.dtype.kind in "fc")
            for a, n in zip(arrays, needs, strict=True)]


def weighted(results) -> engine.Tensor | None:
    """A number in which each element of the results has a weight of its own; None where nothing requires grad."""
    parts = [engine.view_as_real(t) if t.is_complex() else t for t in results if t.requires_grad]
    return sum((t * (engine.arange(t.numel(), dtype=t.dtype).reshape(t.shape) + 1)).sum() for t in parts) if parts else None


def assert_equal(a, b, rtol=1e-12):
    assert a.dtype is b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad
    x, y = a.detach().numpy(), b.detach().numpy()
    if x.dtype.kind in "fc":
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * (1 + np.abs(y[np.isfinite(y)]).max(initial=0)))
    else:
        np.testing.assert_array_equal(x, y)


def assert_compiled_equals_eager(calls, draws, needs):
    """`calls`: functions of some tensors each; `draws`: two lists of their arrays; `needs`: which require grad."""
    counts = [len(a) for a in draws[0]]

    def function(*tensors):
        given = iter(tensors)
        return flat([call(*[next(given) for _ in range(n)]) for call, n in zip(calls, counts, strict=True)])
    compiled = engine.compile(function)
    for arrays in (draws[0], draws[1]):
        found = []
        for f in (compiled, function):
            tensors = leaves([a for group in arrays for a in group], [n for group in needs for n in group])
            results = f(*tensors)
            total = weighted(results)
            wanted = [t for t in tensors if t.requires_grad]
            gradients = () if total is None else engine.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
            found.append((results, gradients))
        for a, b in zip(found[0][0], found[1][0], strict=True):
            assert_equal(a, b)
            assert a.numel() < 2 or a.stride() == b.stride()
        for a, b in zip(found[0][1], found[1][1], strict=True):
            assert_equal(a, b, 1e-10)
    assert compiled.cache_info()[:2] == (1, 1) and not compiled.eager


@pytest.mark.parametrize("ops", groups(POINTWISE))
def test_pointwise(ops, rng):
    """Dense, transposed and broadcast operands."""
    def arrays(op):
        kind = kind_of(op)
        dense = operands(rng, op, kind, (2, 3))
        return [np.ascontiguousarray(a.T).T for a in dense] if len(op.name) % 2 else broadcasting(rng, op, kind, [(2, 1), (3,)])
    draws = [[arrays(op) for op in ops] for _ in range(2)]
    needs = [[op.differentiable] * len(op.inputs) for op in ops]
    assert_compiled_equals_eager(ops, draws, needs)


@pytest.mark.parametrize("ops", groups(FOLDS))
@pytest.mark.parametrize("shape, dims", [((3, 40), (1,)), ((4, 3), (0,)), ((5, 2), None)], ids=["rows", "columns", "all"])
def test_folds(ops, shape, dims, rng):
    ops = [op for op in ops if dims is not None or not (op.extra or op.positions)]

    def arrays(op):
        kind = kind_of(op)
        small = tuple(1 if dims is None or k in dims else n for k, n in enumerate(shape))
        x = draw(rng, op, "x", kind, shape)
        if not op.empty and x.dtype.kind == "f":
            x = rng.permutation(x.size).reshape(shape) * 0.2 - 1.0          # no ties
        return [x, *[draw(rng, op, "e", kind, small) for _ in range(op.extra)]]
    draws = [[arrays(op) for op in ops] for _ in range(2)]
    calls = [lambda *xs, op=op: op(*xs, dims=dims, keepdim=len(op.name) % 2 == 0) for op in ops]
    assert_compiled_equals_eager(calls, draws, [[op.differentiable] * len(a) for op, a in zip(ops, draws[0], strict=True)])


SAMPLED = [op for op in STRUCTURAL if op.samples is not None and op.name != "unsafe_view"]      # that one's result must be alone


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("ops", groups(SAMPLED))
def test_structural(ops, rng):
    """The samples of a record, twice: options are those of the first draw, which the second one must share."""
    calls, draws, needs = [], [[], []], []
    for op in ops:
        first, second = (list(op.samples(rng, "float64")) for _ in range(2))
        for (a, options), (b, again) in list(zip(first, second, strict=True))[:2]:
            same = [x.shape for x in a] == [x.shape for x in b] and repr(options) == repr(again)
            calls.append((lambda *xs, op=op, o=options: op(list(xs), **o)) if op.many else
                         (lambda *xs, op=op, o=options: op(*xs, **o)))
            draws[0].append([np.asarray(x) for x in a])
            draws[1].append([np.asarray(x) for x in (b if same else a)])
            needs.append([op.differentiable] * len(a))
    assert_compiled_equals_eager(calls, draws, needs)
