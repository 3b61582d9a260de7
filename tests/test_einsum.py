"""einsum against NumPy's: every notation, gradients, orders of contraction, error texts."""
import numpy as np
import pytest

import engine
from engine.tensor import from_array

EQUATIONS = [
    ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ii", (3, 3)),
    ("ii->i", (3, 3)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("i,j", (2,), (3,)), ("i,i", (3,), (3,)),
    ("...ij,...jk", (7, 2, 3), (7, 3, 4)), ("...ij,jk->...ik", (7, 2, 3), (3, 4)), ("...ij,...jk", (7, 1, 2, 3), (5, 3, 4)),
    ("bn,anm,bm->ba", (2, 5), (3, 5, 4), (2, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)),
    ("iij->j", (3, 3, 2)), ("ij,ij->ij", (2, 3), (2, 3)), ("ij,ij->i", (2, 3), (2, 3)), ("ij,ij->", (2, 3), (2, 3)),
    ("bij,bij->b", (2, 3, 4), (2, 3, 4)), ("Ab,bc", (2, 3), (3, 4)), ("ba,Bb", (2, 3), (4, 2)), ("ij,k->ijk", (2, 3), (4,)),
    ("...->...", (2, 3)), ("...ii->...i", (2, 3, 3)), ("ijij->", (2, 3, 2, 3)), ("i,ij,j->", (2,), (2, 3), (3,)),
    ("a,b,c,d->", (2,), (3,), (4,), (5,)), ("ib,b->b", (2, 3), (3,)), (" i j , j k -> i k ", (2, 3), (3, 4)), ("", ()),
    ("i,->i", (3,), ()), ("ij,jk->ik", (0, 3), (3, 2)), ("ij,jk->ik", (2, 0), (0, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
]


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EQUATIONS])
def test_einsum_is_numpys(equation, shapes, rng):
    for dtype in ("float64", "int64"):
        arrays = [np.asarray(rng.integers(-4, 5, s) if dtype == "int64" else rng.normal(size=s), dtype) for s in shapes]
        seen = engine.einsum(equation, *map(from_array, arrays))
        expected = np.einsum(equation, *arrays)
        assert tuple(seen.shape) == expected.shape and seen.numpy().dtype == expected.dtype
        np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EQUATIONS if all(s) and all(0 not in t for t in s)])
def test_gradients_are_einsums_themselves(equation, shapes, rng):
    """Along a direction, by central differences; einsum is linear in each operand, so a step of 1 is exact up to rounding."""
    arrays = [rng.normal(size=s) for s in shapes]
    for k in range(len(arrays)):
        tensors = [from_array(a) for a in arrays]
        tensors[k].requires_grad_()
        out = engine.einsum(equation, *tensors)
        weights = rng.normal(size=tuple(out.shape))
        (g,) = engine.autograd.grad((out * from_array(weights)).sum(), [tensors[k]])
        direction = rng.normal(size=shapes[k])
        change = [a if j != k else direction for j, a in enumerate(arrays)]
        expected = (np.einsum(equation, *change) * weights).sum()
        np.testing.assert_allclose((g.numpy() * direction).sum(), expected, rtol=1e-9, atol=1e-9)


def test_complex_operands(rng):
    x, y = (rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)) for _ in range(2))
    X, Y = from_array(x).requires_grad_(), from_array(y)
    out = engine.einsum("ij,jk->ik", X, Y)
    np.testing.assert_allclose(out.detach().numpy(), x @ y, rtol=1e-12)
    engine.einsum("ij,ij->", out, out.conj()).real.backward()
    np.testing.assert_allclose(X.grad.numpy(), 2 * (x @ y) @ y.conj().T, rtol=1e-12)


def test_sizes_of_one_broadcast(rng):
    x, y = rng.normal(size=(2, 1)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(engine.einsum("ij,jk", from_array(x), from_array(y)).numpy(), np.broadcast_to(x, (2, 3)) @ y)
    np.testing.assert_allclose(engine.einsum("ij,ij->ij", from_array(x), from_array(y[:2, :])).numpy(), x * y[:2])


def test_labels_as_lists(rng):
    x, y = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 4, 5))
    X, Y = from_array(x), from_array(y)
    np.testing.assert_allclose(engine.einsum(X, [0, ...], Y, [..., 1], [1, ..., 0]).numpy(),
                               np.einsum(x, [0, ...], y, [..., 1], [1, ..., 0]))
    np.testing.assert_allclose(engine.einsum(X, [0, 1, 2]).numpy(), x)
    np.testing.assert_allclose(engine.einsum("ijk,jkl->il", [X, Y]).numpy(), np.einsum("ijk,jkl->il", x, y))


def test_the_ellipsis_is_summed_where_the_result_has_none(rng):
    x, y = rng.normal(size=(2, 3)), rng.normal(size=3)
    np.testing.assert_allclose(engine.einsum("...i->i", from_array(x)).numpy(), x.sum(0))
    np.testing.assert_allclose(engine.einsum("...i,...i->i", from_array(x), from_array(y)).numpy(), (x * y).sum(0))
    np.testing.assert_allclose(engine.einsum("ij->...j", from_array(x)).numpy(), x.sum(0))


def test_views_where_nothing_is_computed():
    x = engine.ones(3, 3)
    engine.einsum("ii->i", x).zero_()
    assert x.sum().item() == 6
    same = engine.einsum("ij->ij", x)
    assert same is not x and same.data_ptr() == x.data_ptr()


def test_many_operands_are_contracted_cheapest_first(rng):
    """Left to right, the first product would have 10^8 elements (800 MB)."""
    a, b, c = rng.normal(size=(10_000, 2)), rng.normal(size=(10_000, 2)), rng.normal(size=(10_000,))
    seen = engine.einsum("ax,by,b->xy", *map(from_array, (a, b, c))).numpy()
    np.testing.assert_allclose(seen, np.outer(a.sum(0), c @ b), rtol=1e-9)
    seen = engine.einsum("ax,bx,b->a", *map(from_array, (a, b, c))).numpy()
    np.testing.assert_allclose(seen, a @ (c @ b), rtol=1e-9, atol=1e-9)


m, d3 = engine.ones(2, 3), engine.ones(2, 3, 4)


@pytest.mark.parametrize("arguments, words", [
    (("ij,jk", m), "fewer operands were provided than specified in the equation"),
    (("ij", m, m), "more operands were provided than specified in the equation"),
    (("ij,jk", m, engine.ones(4, 5)),
     "subscript j has size 4 for operand 1 which does not broadcast with previously seen size 3"),
    (("ij", d3), r"the number of subscripts in the equation \(2\) does not match the number of dimensions \(3\) for operand 0 "
                 "and no ellipsis was given"),
    (("ijk...->", m),
     r"the number of subscripts in the equation \(3\) is more than the number of dimensions \(2\) for operand 0"),
    (("ij->ik", m), "output subscript k does not appear in the equation for any input operand"),
    (("ij->ii", m), "output subscript i appears more than once in the output"),
    (("i1", m), r"invalid subscript given at index 1 in the equation string, subscripts must be in \[a-zA-Z\]"),
    (("ij->i1", m), "invalid subscript given at index 5 in the equation string"),
    (("ii", m), "subscript i is repeated for operand 0 but the sizes don't match, 3 != 2"),
    (("i..", m), "found '.' for operand 0 that is not part of any ellipsis"),
    (("i...j...->", m), "found '.' for operand 0 for which an ellipsis was already found"),
    (("ij->i...j...", m), r"found '.' for output but an ellipsis \(...\) was already found"),
    (("...i,...i->i", m, engine.ones(5, 3)), "a dimension of the ellipsis has size 5 for operand 1"),
])
def test_equations_that_do_not_fit(arguments, words):
    with pytest.raises(RuntimeError, match=words):
        engine.einsum(*arguments)


def test_malformed_calls():
    for arguments in ((), ("ij",), (m, [0, 60], [1, 0]), (m, "ij", [0])):
        with pytest.raises(ValueError, match="einsum"):
            engine.einsum(*arguments)
    with pytest.raises(TypeError, match="must be Tensor, not str"):
        engine.einsum("ij,jk->ik", m, "a")
    with pytest.raises(RuntimeError, match="same dtype"):
        engine.einsum("ij,jk", m, engine.ones(3, 5, dtype=engine.float64))
