"""Views: that they share memory, record PyTorch's nodes, refuse what PyTorch refuses, and follow in-place writes on both sides.

Values are compared with NumPy's own views; gradients of writes through views with finite differences.
"""
from __future__ import annotations

import numpy as np
import pytest

import engine as torch
from engine.views import select_fast

X = np.arange(24.0).reshape(4, 6) / 7 - 1

VIEWS = {           # name: (on a tensor, on an array, node)
    "view": (lambda t: t.view(2, -1), lambda a: a.reshape(2, 12), "ViewBackward0"),
    "view_as": (lambda t: t.view_as(torch.tensor(np.zeros((8, 3)))), lambda a: a.reshape(8, 3), "ViewBackward0"),
    "reshape": (lambda t: t.reshape((3, 8)), lambda a: a.reshape(3, 8), "ViewBackward0"),
    "flatten": (lambda t: t.flatten(), lambda a: a.reshape(-1), "ViewBackward0"),
    "unflatten": (lambda t: t.unflatten(1, (2, -1)), lambda a: a.reshape(4, 2, 3), "ViewBackward0"),
    "ravel": (lambda t: t.ravel(), lambda a: a.reshape(-1), "ViewBackward0"),
    "permute": (lambda t: t.permute(1, 0), lambda a: a.T, "PermuteBackward0"),
    "transpose": (lambda t: t.transpose(0, -1), lambda a: a.T, "TransposeBackward0"),
    "t": (lambda t: t.t(), lambda a: a.T, "TBackward0"),
    "T": (lambda t: t.T, lambda a: a.T, "PermuteBackward0"),
    "mT": (lambda t: t.mT, lambda a: a.T, "TransposeBackward0"),
    "movedim": (lambda t: t.movedim(0, 1), lambda a: a.T, "PermuteBackward0"),
    "unsqueeze": (lambda t: t.unsqueeze(1), lambda a: a[:, None], "UnsqueezeBackward0"),
    "squeeze": (lambda t: t.unsqueeze(0).squeeze(), lambda a: a, "SqueezeBackward0"),
    "squeeze_one": (lambda t: t.unsqueeze(0).squeeze(0), lambda a: a, "SqueezeBackward1"),
    "squeeze_some": (lambda t: t.unsqueeze(0).squeeze((0, 1)), lambda a: a, "SqueezeBackward2"),
    "expand": (lambda t: t.expand(1, 4, 6), lambda a: a[None], "ExpandBackward0"),
    "narrow": (lambda t: t.narrow(1, -4, 2), lambda a: a[:, 2:4], "SliceBackward0"),
    "select": (lambda t: t.select(1, -2), lambda a: a[:, -2], "SelectBackward0"),
    "select_fast": (lambda t: select_fast(t, -1), lambda a: a[-1], "SelectBackward0"),
    "diagonal": (lambda t: t.diagonal(1), lambda a: np.diagonal(a, 1), "DiagonalBackward0"),
    "diagonal_turned": (lambda t: t.diagonal(-1, 1, 0), lambda a: np.diagonal(a, -1, 1, 0), "DiagonalBackward0"),
    "unfold": (lambda t: t.unfold(1, 2, 2), lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, 1)[:, ::2],
               "UnfoldBackward0"),
    "as_strided": (lambda t: t.as_strided((2, 3), (6, 2), 1), lambda a: a.ravel()[[[1, 3, 5], [7, 9, 11]]],
                   "AsStridedBackward0"),
    "tensor_split": (lambda t: t.tensor_split(3)[0], lambda a: np.array_split(a, 3)[0], "SliceBackward0"),
}
SEVERAL = {
    "unbind": (lambda t: t.unbind(1), lambda a: [a[:, k] for k in range(6)], "UnbindBackward0"),
    "split": (lambda t: t.split(3), lambda a: [a[:3], a[3:]], "SplitBackward0"),
    "split_sizes": (lambda t: torch.split(t, [1, 3]), lambda a: [a[:1], a[1:]], "SplitWithSizesBackward0"),
    "chunk": (lambda t: t.chunk(4, 1), lambda a: [a[:, :2], a[:, 2:4], a[:, 4:]], "SplitBackward0"),
}


def leaf(a, dtype="float64"):
    t = torch.tensor(np.asarray(a).astype(dtype))
    return t.requires_grad_() if dtype.startswith(("float", "complex")) else t


def numeric(f, a, h=1e-6):
    """Gradient of a scalar function of an array by central differences."""
    g = np.zeros_like(a)
    for at in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[at] += h
        down[at] -= h
        g[at] = (f(up) - f(down)) / (2 * h)
    return g


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_memory_and_records(name):
    on_tensor, on_array, node = VIEWS[name]
    x = leaf(X)
    v = on_tensor(x)
    np.testing.assert_array_equal(v.detach().numpy(), on_array(X))
    assert np.shares_memory(v.detach().numpy(), x.detach().numpy())
    assert type(v.grad_fn).__name__ == node
    assert v._base is x and v._is_view()
    weights = np.cos(np.arange(v.numel())).reshape(v.shape)
    (v * torch.tensor(weights) * v).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), numeric(lambda a: (on_array(a) ** 2 * weights).sum(), X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_views_are_results_of_one_node(name):
    on_tensor, on_array, node = SEVERAL[name]
    x = leaf(X)
    views = on_tensor(x)
    assert isinstance(views, tuple) and len(views) == len(on_array(X))
    for k, (v, a) in enumerate(zip(views, on_array(X), strict=True)):
        np.testing.assert_array_equal(v.detach().numpy(), a)
        assert type(v.grad_fn).__name__ == node and v.output_nr == k and v.grad_fn is views[0].grad_fn
    (views[0] * views[-1].sum()).sum().backward()
    first, last = on_array(np.arange(24).reshape(4, 6))[0], on_array(np.arange(24).reshape(4, 6))[-1]
    wanted = np.zeros(24)
    wanted[first.ravel()] += X.ravel()[last.ravel()].sum()
    wanted[last.ravel()] += X.ravel()[first.ravel()].sum()
    np.testing.assert_allclose(x.grad.numpy().ravel(), wanted)


IN_COLUMNS = [name for name in VIEWS if name not in ("view", "view_as", "flatten", "reshape", "ravel")]    # these need rows


@pytest.mark.parametrize(("layout", "name"), [*(("rows", n) for n in VIEWS), *(("columns", n) for n in IN_COLUMNS)])
def test_a_write_through_a_view_differentiates_base_and_view(layout, name):
    on_tensor, on_array, _ = VIEWS[name]

    def base_of(x):
        return x * 1.0 if layout == "rows" else (x.t().contiguous() * 1.0).t()

    def by_hand(a, look_at_base):
        b = a.copy()
        part = on_array(np.arange(24).reshape(4, 6))         # which elements the view sees
        if layout == "columns" and name == "as_strided":     # which counts in memory, here column by column
            part = np.arange(24).reshape(4, 6).T.ravel()[on_array(np.arange(24).reshape(4, 6))]
        b.ravel()[part] *= b.ravel()[part]
        seen = b if look_at_base else b.ravel()[part]
        return (seen ** 2 * np.sin(np.arange(seen.size)).reshape(seen.shape)).sum()

    for look_at_base in (True, False):
        x = leaf(X)
        base = base_of(x)
        v = on_tensor(base)
        v.mul_(v.clone())
        seen = base if look_at_base else v
        weights = torch.tensor(np.sin(np.arange(seen.numel())).reshape(seen.shape))
        (seen * seen * weights).sum().backward()
        wanted = numeric(lambda a, look=look_at_base: by_hand(a, look), X)
        np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["view", "t", "select", "diagonal", "unfold", "expand", "as_strided"])
def test_a_write_to_the_base_reaches_its_views(name):
    on_tensor, on_array, _ = VIEWS[name]
    x = leaf(X)
    base = x * 1.0
    v = on_tensor(base)
    base.mul_(3.0)
    np.testing.assert_allclose(v.detach().numpy(), on_array(X) * 3)
    v.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), numeric(lambda a: 3 * on_array(a).sum(), X), rtol=1e-6)


def test_a_view_of_what_needs_no_grad_gives_its_base_a_history():
    w = leaf([2.0, 3.0])
    base = torch.tensor(np.zeros((2, 2)))
    base[0].mul_(5.0)
    base.t()[1].add_(w)
    assert type(base.grad_fn).__name__ == "CopySlices"
    (base * base).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), [4.0, 6.0])


def test_refused_writes():
    x = leaf(X)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad is being used"):
        x.t().mul_(2.0)
    with pytest.raises(RuntimeError, match="This view is the output of a function that returns multiple views"):
        (x * 1.0).unbind()[0].mul_(2.0)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"):
        torch.tensor(np.zeros(3)).expand(2, 3).add_(1.0)
    with pytest.raises(RuntimeError, match="view size is not compatible with input tensor's size and stride"):
        x.t().view(24)


def test_versions_are_shared():
    x = torch.tensor(np.zeros((2, 3)))
    v, d = x.t(), x.detach()
    v.add_(1.0)
    assert x._version == v._version == d._version == 1
    x.data.add_(1.0)
    assert x._version == 1 and d.numpy().max() == 2.0


def test_second_order_through_views():
    x = leaf(X)
    y = (x.t().unfold(0, 3, 1).diagonal(0, 0, 1) ** 3).sum() + (x[1].expand(2, 6) ** 3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (gg,) = torch.autograd.grad((g * g).sum(), x)
    def first(a):
        t = leaf(a)
        y = (t.t().unfold(0, 3, 1).diagonal(0, 0, 1) ** 3).sum() + (t[1].expand(2, 6) ** 3).sum()
        (g,) = torch.autograd.grad(y, t)
        return (g.numpy() ** 2).sum()
    np.testing.assert_allclose(gg.numpy(), numeric(first, X), rtol=1e-4, atol=1e-6)


# --- bytes and complex numbers ----------------------------------------------------------------------------------------

def test_view_as_another_dtype():
    x = torch.tensor(X.astype("float32"))
    np.testing.assert_array_equal(x.view(torch.int32).numpy(), X.astype("float32").view("int32"))
    np.testing.assert_array_equal(x.view(dtype=torch.float64).numpy(), X.astype("float32").view("float64"))
    part = np.ascontiguousarray(X.astype("float32")[:, 2:])
    np.testing.assert_array_equal(x[:, 2:].view(torch.int16).numpy(), part.view("int16"))
    for wrong, words in ((lambda: x[:, :5].view(torch.float64), "must be divisible by 2 to view Float as Double"),
                         (lambda: x.t().view(torch.float64), "must be 1 to view Float as Double"),
                         (lambda: x[0, 0].view(torch.float64), "self.dim\\(\\) cannot be 0 to view Float as Double")):
        with pytest.raises(RuntimeError, match=words):
            wrong()


def test_complex_as_pairs_and_back():
    z = leaf(X[:, :2] + 1j * X[:, 2:4], "complex128")
    pairs = torch.view_as_real(z)
    np.testing.assert_array_equal(pairs.detach().numpy(), np.stack([X[:, :2], X[:, 2:4]], -1))
    assert type(pairs.grad_fn).__name__ == "ViewAsRealBackward0"
    (pairs * pairs).sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), 2 * z.detach().numpy())
    r = leaf(X)
    c = torch.view_as_complex(r.view(4, 3, 2))
    np.testing.assert_array_equal(c.detach().numpy(), X.view("complex128"))
    torch.view_as_real(c).sum().backward()
    np.testing.assert_array_equal(r.grad.numpy(), np.ones_like(X))
    for wrong, words in ((lambda: torch.view_as_real(r), "only supported for complex"),
                         (lambda: torch.view_as_complex(r), "last dimension of size 2"),
                         (lambda: torch.view_as_complex(r[0, 0]), "one or more dimensions")):
        with pytest.raises(RuntimeError, match=words):
            wrong()


# --- as_strided -------------------------------------------------------------------------------------------------------

def test_as_strided_overlaps_and_bounds():
    x = leaf(X)
    w = np.arange(12.0).reshape(3, 4)
    (x.as_strided((3, 4), (1, 2), 3) * torch.tensor(w)).sum().backward()
    wanted = np.zeros(24)
    for i in range(3):
        for j in range(4):
            wanted[3 + i + 2 * j] += w[i, j]
    np.testing.assert_allclose(x.grad.numpy().ravel(), wanted)
    assert x[1:].as_strided((2, 3), (3, 1)).storage_offset() == 6
    for size, stride, offset, words in (
            ((4, 6), (7, 1), 0, "out of bounds for storage of size 192"), ((2, 2), (1,), 0, "mismatch in length"),
            ((2,), (-1,), 3, "Negative strides are not supported"), ((2,), (1,), -1, "invalid storage offset")):
        with pytest.raises(RuntimeError, match=words):
            x.as_strided(size, stride, offset)


# --- in place, without moving elements --------------------------------------------------------------------------------

def test_in_place_shapes():
    x = leaf(X)
    y = (x * 1.0).t_()
    assert type(y.grad_fn).__name__ == "TBackward1" and y.shape == (6, 4) and y._version == 1
    y.unsqueeze_(0).transpose_(1, 2).squeeze_(0).mul_(2.0)
    np.testing.assert_allclose(y.detach().numpy(), X * 2)
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 8 * X)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        x.t_()


def test_in_place_shapes_leave_views_right():
    x = leaf(X)
    base = x * 1.0
    row = base[0]
    base.t_()
    row.mul_(5.0)
    weights = np.arange(24.0).reshape(6, 4)
    (base * torch.tensor(weights)).sum().backward()
    wanted = weights.T.copy()
    wanted[0] *= 5
    np.testing.assert_allclose(x.grad.numpy(), wanted)
    assert base.shape == (6, 4)
    v = torch.tensor(X)[1]
    v.unsqueeze_(0).add_(1.0)
    np.testing.assert_allclose(v._base.numpy()[1], X[1] + 1)


def test_resize():
    x = torch.tensor(np.arange(6.0).reshape(2, 3))
    assert x.resize_(2, 2).tolist() == [[0, 1], [2, 3]]
    assert x.resize_((5,)).shape == (5,) and x[:4].tolist() == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        (leaf(X) * 1.0).resize_(3)


# --- copy_ ------------------------------------------------------------------------------------------------------------

def test_copy_casts_broadcasts_and_records():
    x, s = leaf(X), leaf(X[0], "float32")
    y = torch.tensor(np.ones((4, 6))) * 2.0
    y.copy_(s)
    assert type(y.grad_fn).__name__ == "CopyBackwards"
    np.testing.assert_array_equal(y.detach().numpy(), np.broadcast_to(X[0].astype("float32"), (4, 6)))
    z = x * 2.0
    z[1:3].copy_(y[:2])
    (z * z).sum().backward()
    np.testing.assert_allclose(s.grad.numpy(), 4 * X[0].astype("float32"), rtol=1e-6)
    assert s.grad.dtype is torch.float32
    wanted = 8 * X
    wanted[1:3] = 0
    np.testing.assert_allclose(x.grad.numpy(), wanted)
    i = torch.tensor(np.zeros((2, 2), "int64"))
    assert i.copy_(torch.tensor([1.9, -2.9])).tolist() == [[1, -2], [1, -2]] and i.copy_(True).tolist() == [[1, 1], [1, 1]]


def test_copy_refuses():
    x = torch.tensor(X)
    with pytest.raises(RuntimeError, match=r"size of tensor a \(6\) must match the size of tensor b \(4\) at non-singleton"):
        x.copy_(torch.tensor(X[:, 0]))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x.copy_(torch.tensor(X[None]))
    with pytest.raises(TypeError, match=r"argument 'other' \(position 1\) must be Tensor, not str"):
        x.copy_("a")
    y = torch.tensor(np.arange(5.0))
    assert y[1:].copy_(y[:-1]).tolist() == [0, 1, 2, 3]         # overlapping memory
