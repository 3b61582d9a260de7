"""Operators that move elements (cat, stack, flip, roll, repeat, triangles, ...) and what all of the shape family refuses.

Oracles are NumPy's functions of the same meaning; gradients are checked by the adjoint identity <g, A x> = <A' g, x>, exact for
linear operators, and to second order through a square.
"""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine as torch

X = np.arange(24.0).reshape(4, 6) / 7 - 1
V = np.array([2.0, -1.0, 3.0, 0.5])

MOVES = {           # name: (on a tensor, on an array)
    "cat": (lambda t: torch.cat([t, t.t().reshape(4, 6), t[:1]]), lambda a: np.concatenate([a, a.T.reshape(4, 6), a[:1]])),
    "cat_columns": (lambda t: torch.concat((t, t[:, ::2]), dim=-1), lambda a: np.concatenate([a, a[:, ::2]], -1)),
    "cat_ignores_empty": (lambda t: torch.cat([torch.tensor([]), t], 1), lambda a: a),
    "stack": (lambda t: torch.stack([t, t + t], 1), lambda a: np.stack([a, 2 * a], 1)),
    "stack_last": (lambda t: torch.stack([t, t], -1), lambda a: np.stack([a, a], -1)),
    "hstack": (lambda t: torch.hstack([t, t]), lambda a: np.hstack([a, a])),
    "hstack_vectors": (lambda t: torch.hstack([t[0], t[1]]), lambda a: np.hstack([a[0], a[1]])),
    "vstack": (lambda t: torch.vstack([t[0], t]), lambda a: np.vstack([a[0], a])),
    "dstack": (lambda t: torch.dstack([t, t]), lambda a: np.dstack([a, a])),
    "column_stack": (lambda t: torch.column_stack([t[:, 0], t]), lambda a: np.column_stack([a[:, 0], a])),
    "flip": (lambda t: t.flip(0, -1), lambda a: np.flip(a)),
    "fliplr": (lambda t: torch.fliplr(t), lambda a: np.fliplr(a)),
    "flipud": (lambda t: t.t().flipud(), lambda a: np.flipud(a.T)),
    "roll": (lambda t: t.roll((1, -2), (0, 1)), lambda a: np.roll(a, (1, -2), (0, 1))),
    "roll_flat": (lambda t: t.t().roll(5), lambda a: np.roll(a.T, 5)),
    "roll_twice": (lambda t: t.roll((3, 2), (1, 1)), lambda a: np.roll(a, 5, 1)),
    "rot90": (lambda t: t.rot90(), lambda a: np.rot90(a)),
    "rot90_back": (lambda t: torch.rot90(t, -1, (0, 1)), lambda a: np.rot90(a, -1)),
    "rot180": (lambda t: t.rot90(2), lambda a: np.rot90(a, 2)),
    "repeat": (lambda t: t.repeat(2, 1, 3), lambda a: np.tile(a, (2, 1, 3))),
    "tile": (lambda t: t.tile((2,)), lambda a: np.tile(a, 2)),
    "repeat_interleave": (lambda t: t.repeat_interleave(2), lambda a: np.repeat(a, 2)),
    "repeat_interleave_dim": (lambda t: t.repeat_interleave(3, dim=1), lambda a: np.repeat(a, 3, 1)),
    "repeat_interleave_counts": (lambda t: t.repeat_interleave(torch.tensor([1, 0, 3, 2]), 0),
                                 lambda a: np.repeat(a, [1, 0, 3, 2], 0)),
    "tril": (lambda t: t.tril(1), lambda a: np.tril(a, 1)),
    "tril_below": (lambda t: t.t().tril(-2), lambda a: np.tril(a.T, -2)),
    "triu": (lambda t: torch.triu(t, diagonal=2), lambda a: np.triu(a, 2)),
    "triu_batch": (lambda t: t.view(2, 3, 4).triu(-1), lambda a: np.triu(a.reshape(2, 3, 4), -1)),
    "diag": (lambda t: t.diag(-1), lambda a: np.diag(a, -1)),
    "diag_of_vector": (lambda t: t[0].diag(2), lambda a: np.diag(a[0], 2)),
    "diagflat": (lambda t: torch.diagflat(t), lambda a: np.diagflat(a)),
    "diag_embed": (lambda t: t.diag_embed(), lambda a: np.stack([np.diag(r) for r in a])),
    "diag_embed_dims": (lambda t: t.diag_embed(-1, 2, 0), lambda a: np.stack([np.diag(r, -1).T for r in a], 1)),
    "block_diag": (lambda t: torch.block_diag(t, t[0]),
                   lambda a: np.block([[a, np.zeros((4, 6))], [np.zeros((1, 6)), a[:1]]])),
    "clone": (lambda t: t.t().clone(), lambda a: a.T),
    "contiguous": (lambda t: t.t()[::2].contiguous(), lambda a: a.T[::2]),
    "reshape_copies": (lambda t: t.t().reshape(3, -1), lambda a: a.T.reshape(3, -1)),
    "select_scatter": (lambda t: torch.select_scatter(t, t[:, 0] + t[:, 1], 1, -1),
                       lambda a: np.concatenate([a[:, :-1], (a[:, 0] + a[:, 1])[:, None]], 1)),
    "slice_scatter": (lambda t: torch.slice_scatter(t, t[:, :3], 1, 0, 6, 2), lambda a: _into(a, np.s_[:, ::2], a[:, :3])),
    "diagonal_scatter": (lambda t: torch.diagonal_scatter(t, t[:, 0]), lambda a: _into(a, (range(4), range(4)), a[:, 0])),
    "cartesian_prod": (lambda t: torch.cartesian_prod(t[0], t[1, :2]),
                       lambda a: np.array(list(itertools.product(a[0], a[1, :2])))),
    "combinations": (lambda t: torch.combinations(t[0], 3), lambda a: np.array(list(itertools.combinations(a[0], 3)))),
    "combinations_again": (lambda t: t[1].combinations(with_replacement=True),
                           lambda a: np.array(list(itertools.combinations_with_replacement(a[1], 2)))),
    "meshgrid": (lambda t: torch.meshgrid(t[0], t[:, 1], indexing="ij")[1],
                 lambda a: np.meshgrid(a[0], a[:, 1], indexing="ij")[1]),
    "meshgrid_xy": (lambda t: torch.meshgrid(t[0], t[:, 1], indexing="xy")[0], lambda a: np.meshgrid(a[0], a[:, 1])[0]),
    "broadcast_to": (lambda t: torch.broadcast_to(t[:, :1], (2, 4, 3)), lambda a: np.broadcast_to(a[:, :1], (2, 4, 3))),
    "broadcast_tensors": (lambda t: torch.broadcast_tensors(t[0], t)[0], lambda a: np.broadcast_to(a[0], (4, 6))),
    "atleast_3d": (lambda t: torch.atleast_3d(t[0]), lambda a: np.atleast_3d(a[0])),
}


def _into(a, where, value):
    made = a.copy()
    made[where] = value
    return made


@pytest.mark.parametrize("name", MOVES)
def test_moves_elements_and_brings_gradients_back(name):
    on_tensor, on_array = MOVES[name]
    x = torch.tensor(X).requires_grad_()
    y = on_tensor(x)
    wanted = on_array(X)
    assert y.shape == wanted.shape
    np.testing.assert_array_equal(y.detach().numpy(), wanted)
    rng = np.random.default_rng(len(name))
    g, direction = rng.normal(size=wanted.shape), rng.normal(size=X.shape)
    (grad,) = torch.autograd.grad(y, x, torch.tensor(g), create_graph=True)
    np.testing.assert_allclose((grad.detach().numpy() * direction).sum(), (g * on_array(direction)).sum(), rtol=1e-10)
    # second order: y is A x, so the gradient of |A x|^2 / 2 is A'A x, whose product with a direction has gradient A'A direction
    (first,) = torch.autograd.grad((on_tensor(x) * on_tensor(x)).sum() * 0.5, x, create_graph=True)
    (second,) = torch.autograd.grad((first * torch.tensor(direction)).sum(), x)
    np.testing.assert_allclose((second.numpy() * direction).sum(), (on_array(direction) ** 2).sum(), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "complex64", "complex128"])
def test_every_size_of_element(dtype):
    a = (np.arange(12).reshape(3, 4) % 5 - 1).astype(dtype)
    t = torch.tensor(a)
    for made, wanted in (
            (t.tril(), np.tril(a)), (t.t().triu(1), np.triu(a.T, 1)), (t.flip(1), a[:, ::-1]),
            (t.repeat(2, 1), np.tile(a, (2, 1))),
                         (torch.cat([t, t]), np.concatenate([a, a])), (t.diag(), np.diag(a)), (t.roll(1, 1), np.roll(a, 1, 1))):
        assert made.dtype is t.dtype
        np.testing.assert_array_equal(made.numpy(), wanted)


def test_node_names():
    x = torch.tensor(X).requires_grad_()
    names = {"CatBackward0": torch.cat([x, x]), "StackBackward0": torch.stack([x]), "UnsafeViewBackward0": x.t().reshape(24),
             "FlipBackward0": x.flip(0), "RollBackward0": x.roll(1), "Rot90Backward0": x.rot90(),
             "RepeatBackward0": x.repeat(1, 2),
             "TrilBackward0": x.tril(), "CloneBackward0": x.t().contiguous(), "DiagEmbedBackward0": x[0].diag(),
             "BlockDiagBackward0": torch.block_diag(x),
             "IndexSelectBackward0": x.repeat_interleave(torch.tensor([1, 1, 1, 2]), 0),
             "DiagonalBackward0_copy": x.diag()}
    assert {name: type(y.grad_fn).__name__ for name, y in names.items()} == {name: name for name in names}


def test_promotion_and_out():
    i, f, h = torch.tensor([1, 2]), torch.tensor([0.5]), torch.tensor([True])
    assert torch.cat([i, f]).dtype is torch.float32 and torch.cat([i, h]).dtype is torch.int64
    assert torch.stack([torch.tensor(1), torch.tensor(2.5)]).tolist() == [1.0, 2.5]
    out = torch.tensor(np.empty(3))
    assert torch.cat([i, f], out=out) is out and out.tolist() == [1, 2, 0.5]
    with pytest.raises(TypeError, match="input types can't be cast to the desired output type Long"):
        torch.cat([i, f], out=torch.tensor([0, 0, 0]))
    out = torch.tensor(np.empty((2, 2)))
    assert torch.tril(torch.tensor(np.ones((2, 2))), out=out) is out and out.tolist() == [[1, 0], [1, 1]]
    t = torch.tensor(np.ones((2, 3)))
    assert t.triu_(1) is t and t.tolist() == [[0, 1, 1], [0, 0, 1]]


def test_layouts():
    x = torch.tensor(X)
    assert x.contiguous() is x and x.t().contiguous().is_contiguous() and not x.t().is_contiguous()
    assert x.t().clone().stride() == (1, 6) and x.t().clone(memory_format=torch.contiguous_format).stride() == (4, 1)
    assert x.t()[::2].clone().stride() == (1, 3)
    q = torch.tensor(np.arange(24.0).reshape(1, 2, 3, 4))
    c = q.contiguous(memory_format=torch.channels_last)
    assert c.stride() == (24, 1, 8, 2) and c.is_contiguous(memory_format=torch.channels_last) and not c.is_contiguous()
    np.testing.assert_array_equal(c.numpy(), q.numpy())
    with pytest.raises(RuntimeError, match="required rank 4 tensor to use channels_last format"):
        x.contiguous(memory_format=torch.channels_last)
    assert x.t().unsqueeze(1).stride() == (1, 24, 6)


def test_empty_and_numbers():
    z, s = torch.tensor(np.empty((0, 3))), torch.tensor(2.0)
    assert z.flip(0).shape == z.roll(1, 0).shape == z.tril().shape == torch.cat([z, z]).shape == (0, 3)
    assert z.repeat(2, 2).shape == (0, 6) and [p.shape for p in z.chunk(2)] == [(0, 3), (0, 3)] and z.unbind() == ()
    assert torch.stack([s, s]).tolist() == s.repeat(2).tolist() == [2.0, 2.0] and torch.atleast_2d(s).tolist() == [[2.0]]
    assert s.flatten().shape == s.view(1).shape == s.unsqueeze(0).shape == (1,) and s.expand(2, 1).tolist() == [[2.0], [2.0]]
    assert torch.vander(torch.tensor(V), 3).tolist() == np.vander(V, 3).tolist()
    assert torch.vander(torch.tensor([1, 2, 3]), increasing=True).tolist() == np.vander([1, 2, 3], increasing=True).tolist()
    assert torch.broadcast_shapes((2, 1), (3,), 1) == (2, 3) and isinstance(torch.broadcast_shapes((1,)), torch.Size)


def test_large_ones_use_threads():
    a = np.arange(300 * 400.0).reshape(300, 400)
    t = torch.tensor(a)
    np.testing.assert_array_equal(t.tril(7).numpy(), np.tril(a, 7))
    joined = torch.cat([t, t.t().reshape(300, 400)], 1)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate([a, a.T.reshape(300, 400)], 1))
    np.testing.assert_array_equal(t.flip(1).t().contiguous().numpy(), a[:, ::-1].T)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    a = np.arange(float(np.prod(shape))).reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    x, b = torch.tensor(a).permute(order), a.transpose(order)
    np.testing.assert_array_equal(x.reshape(-1 if a.size else 0).numpy(), b.reshape(-1))
    d = data.draw(st.integers(-b.ndim, b.ndim - 1))
    shift = data.draw(st.integers(-9, 9))
    np.testing.assert_array_equal(x.roll(shift, d).numpy(), np.roll(b, shift, d))
    np.testing.assert_array_equal(x.flip(d).numpy(), np.flip(b, d))
    np.testing.assert_array_equal(torch.stack([x, x], d).numpy(), np.stack([b, b], d))
    counts = data.draw(st.lists(st.integers(0, 3), min_size=b.shape[d], max_size=b.shape[d]))
    if counts:
        found = x.repeat_interleave(torch.tensor(counts), d)
        np.testing.assert_array_equal(found.numpy(), np.repeat(b, counts if len(counts) > 1 else counts[0], d))
    cuts = sorted(data.draw(st.lists(st.integers(0, 4), max_size=3)))
    for part, wanted in zip(x.tensor_split(tuple(cuts), d), np.split(b, cuts, d), strict=True):
        np.testing.assert_array_equal(part.numpy(), wanted)
    if b.ndim > 1:
        k = data.draw(st.integers(-5, 5))
        np.testing.assert_array_equal(x.tril(k).numpy(), np.tril(b, k))
        np.testing.assert_array_equal(x.triu(k).numpy(), np.triu(b, k))
        np.testing.assert_array_equal(x.diagonal(k, 0, 1).numpy(), np.diagonal(b, k, 0, 1))


REFUSED = [
    (lambda x: x.view(5, 5), RuntimeError, r"shape '\[5, 5\]' is invalid for input of size 24"),
    (lambda x: x.view(-2, 3), RuntimeError, "invalid shape dimension -2"),
    (lambda x: x.reshape(-1, -1), RuntimeError, "only one dimension can be inferred"),
    (lambda x: x[:0].view(-1, 0), RuntimeError, "cannot reshape tensor of 0 elements into shape"),
    (lambda x: torch.reshape(1, (1,)), TypeError, "argument 'input' .position 1. must be Tensor, not int"),
    (lambda x: x.permute(0), RuntimeError, "number of dimensions in the tensor input does not match"),
    (lambda x: x.permute(0, 0), RuntimeError, "duplicate dims are not allowed"),
    (lambda x: x.transpose(0, 2), IndexError,
     r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)"),
    (lambda x: x[None].t(), RuntimeError, r"t\(\) expects a tensor with <= 2 dimensions, but self is 3D"),
    (lambda x: x[0].mT, RuntimeError, "tensor.mT is only supported on matrices or batches of matrices. Got 1-D tensor."),
    (lambda x: x[0].H, RuntimeError, "tensor.H is only supported on matrices"),
    (lambda x: x.expand(4), RuntimeError, r"the number of sizes provided \(1\) must be greater or equal"),
    (lambda x: x.expand(4, 5), RuntimeError, r"The expanded size of the tensor \(5\) must match the existing size \(6\)"),
    (lambda x: x.expand(-1, 4, 6), RuntimeError, "isn't allowed in a leading, non-existing dimension 0"),
    (lambda x: x.flatten(1, 0), RuntimeError, "start_dim cannot come after end_dim"),
    (lambda x: x.unflatten(1, (4, 2)), RuntimeError,
     r"Provided sizes \[4, 2\] don't multiply up to the size of dim 1 \(6\)"),
    (lambda x: x.squeeze((0, 0)), RuntimeError, "dim 0 appears multiple times in the list of dims"),
    (lambda x: x.movedim((0, 0), (0, 1)), RuntimeError, "movedim: repeated dim in `source`"),
    (lambda x: torch.broadcast_tensors(x, x[:, 0]), RuntimeError,
     r"The size of tensor a \(6\) must match the size of tensor b \(4\)"),
    (lambda x: torch.broadcast_shapes((2, 3), (4,)), RuntimeError,
     "Attempting to broadcast a dimension of length 4 at -1!"),
    (lambda x: torch.cat([]), ValueError, "expected a non-empty list of Tensors"),
    (lambda x: torch.cat([x, x[:, :5]]), RuntimeError,
     r"Sizes of tensors must match except in dimension 0. Expected size 6 but got size 5 for tensor number 1 in the list."),
    (lambda x: torch.cat([x, x[0]]), RuntimeError, "Tensors must have same number of dimensions: got 2 and 1"),
    (lambda x: torch.cat([x[0, 0], x[0]]), RuntimeError,
     r"zero-dimensional tensor \(at position 0\) cannot be concatenated"),
    (lambda x: torch.cat([x, 1]), TypeError, "expected Tensor as element 1 in argument 0, but got int"),
    (lambda x: torch.cat(x), TypeError, "must be tuple of Tensors, not Tensor"),
    (lambda x: torch.stack([x, x[0]]), RuntimeError,
     r"stack expects each tensor to be equal size, but got \[4, 6\] at entry 0 and \[6\]"),
    (lambda x: torch.stack([]), RuntimeError, "stack expects a non-empty TensorList"),
    (lambda x: x.split(0), RuntimeError, "split_size can only be 0 if dimension size is 0"),
    (lambda x: x.split([1, 2]), RuntimeError, "expects split_sizes to sum exactly to 4"),
    (lambda x: x.chunk(0), RuntimeError, "chunk expects `chunks` to be greater than 0, got: 0"),
    (lambda x: x.tensor_split(0), RuntimeError, "number of sections must be larger than 0, got 0"),
    (lambda x: x.hsplit(4), RuntimeError, "the size of the dimension 6 is not divisible by the split_size 4"),
    (lambda x: x.dsplit(2), RuntimeError,
     "requires a tensor with at least 3 dimension, but got a tensor with 2 dimensions"),
    (lambda x: x.repeat(2), RuntimeError, "Number of dimensions of repeat dims can not be smaller"),
    (lambda x: x.repeat(-1, 1), RuntimeError, "Trying to create tensor with negative dimension -4"),
    (lambda x: x.narrow(0, 1, 9), RuntimeError, r"start \(1\) \+ length \(9\) exceeds dimension size \(4\)"),
    (lambda x: x.select(0, 7), IndexError, r"index 7 out of range for tensor of size \[4, 6\] at dimension 0"),
    (lambda x: x[0, 0].unbind(), IndexError, "Dimension specified as 0 but tensor has no dimensions"),
    (lambda x: x.flip(0, 0), RuntimeError, "dim 0 appears multiple times"),
    (lambda x: x[0].fliplr(), RuntimeError, "Input must be >= 2-d."),
    (lambda x: x.roll((1, 2), 0), RuntimeError, "shifts and dimensions must align. shifts: 2, dims:1"),
    (lambda x: x.rot90(1, (0, 0)), RuntimeError, "expected rotation dims to be different"),
    (lambda x: x.unfold(0, 9, 1), RuntimeError, "maximum size for tensor at dimension 0 is 4 but size is 9"),
    (lambda x: x.unfold(0, 1, 0), RuntimeError, "step is 0 but must be > 0"),
    (lambda x: x.repeat_interleave(-1), RuntimeError, "Repeats must be non-negative"),
    (lambda x: x.repeat_interleave(torch.tensor([1, 2]), 0), RuntimeError,
     "repeats must have the same size as input along dim"),
    (lambda x: x.repeat_interleave(torch.tensor([1, -1, 1, 1]), 0), RuntimeError, "repeats can not be negative"),
    (lambda x: x.repeat_interleave(torch.tensor([1, 1, 1, 1]), 0, output_size=3), RuntimeError,
     "does not match required size"),
    (lambda x: x[None].diag(), RuntimeError, r"diag\(\): Supports 1D or 2D tensors. Got 3D"),
    (lambda x: x.diagonal(0, 1, 1), RuntimeError, "diagonal dimensions cannot be identical 1, 1"),
    (lambda x: x[0].tril(), RuntimeError, "tril: input tensor must have at least 2 dimensions"),
    (lambda x: torch.vander(x), RuntimeError, "x must be a one-dimensional tensor"),
    (lambda x: torch.block_diag(x[None]), RuntimeError,
     "Input tensors must have 2 or fewer dimensions. Input 0 has 3 dimensions"),
    (lambda x: torch.combinations(x), RuntimeError, "Expect a 1D vector"),
    (lambda x: torch.meshgrid(x, indexing="ij"), RuntimeError, "Expected 0D or 1D tensor in the tensor list"),
    (lambda x: torch.meshgrid(x[0], indexing="ab"), RuntimeError, 'indexing must be one of "xy" or "ij", but received: ab'),
    (lambda x: torch.select_scatter(x, x[:, 0], 0, 0), RuntimeError,
     "expected src to have a size equal to the slice of self"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED, ids=[words[:40] for *_, words in REFUSED])
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.tensor(X))


def test_warnings():
    with pytest.warns(UserWarning, match="it will be required to pass the indexing argument"):
        torch.meshgrid(torch.tensor(V))
    with pytest.warns(UserWarning, match="on tensors of dimension other than 2"):
        assert torch.tensor(X[None]).T.shape == (6, 4, 1)
