"""In-place writes, views and version counters under differentiation: right gradients, or PyTorch's refusal."""
import numpy as np
import pytest

import engine as torch

CHECK, CHECK_TWICE = torch.autograd.gradcheck, torch.autograd.gradgradcheck


def points(*shape, rng):
    return torch.tensor(rng.uniform(0.5, 1.5, shape), dtype=torch.float64, requires_grad=True)


def leaf(*values):
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def names(tensor):
    return [type(node).__name__ for node, _ in tensor.grad_fn.next_functions]


# --- gradients, by finite differences of the whole program ---------------------------------------------------------------

def base_then_view(x, w):
    y = x * 1
    v = y[1]
    y.mul_(w)
    return v * y[0]


def view_then_base(x, w):
    y = x * 1
    v = y[:, 1:]
    v.mul_(w[:2])
    return y * y


def view_of_view(x, w):
    y = x * 1
    v = y.transpose(0, 1)[1:].unsqueeze(0)
    v.add_(w[:2].unsqueeze(0))
    v.mul_(v[0, 0].clone())
    return y.sum(0) * v[0, :, 0].sum()


def two_views_of_one_base(x, w):
    y = x * 1
    a, b = y[0], y[:, 0]
    a.mul_(w)
    b.mul_(w[0])
    return a.sum() * b


def value_used_before_and_after(x, w):
    y = x * 1
    z = y + w
    y.add_(z)
    y.mul_(0.5)
    return y * z


def own_operand(x, w):
    y = x * 1
    y.mul_(y)
    y.div_(w)
    return y


def saved_by_the_write_itself(x, w):
    y = x * w
    y.exp_()
    y.sqrt_()
    return y * x


def constants_get_history(x, w):
    y = torch.zeros(2, 3, dtype=torch.float64)
    v = y[1]
    v.add_(w)
    y[0] = x[0] * 2
    return y * x + v


def overwritten(x, w):
    y = x * 1
    y[0] = 3.0
    y[:, 1] = w[1]
    z = y.clone()
    y.zero_()
    y.add_(w)
    return y * z


def copied_into(x, w):
    y = x * 1
    y[1].copy_(w)
    z = torch.empty(2, 3, dtype=torch.float64)
    z.copy_(y)
    return z * y


def unrecorded_write_to_a_leaf_of_no_graph(x, w):
    y = torch.ones(3, dtype=torch.float64)
    with torch.no_grad():
        y[1:].mul_(3)
    return x * y * w


def reshaped(x, w):
    y = x * 1
    y.view(-1)[1:4].mul_(2)
    y.view(3, 2).transpose(0, 1).add_(w)
    return y


PROGRAMS = [base_then_view, view_then_base, view_of_view, two_views_of_one_base, value_used_before_and_after, own_operand,
            saved_by_the_write_itself, constants_get_history, overwritten, copied_into,
            unrecorded_write_to_a_leaf_of_no_graph, reshaped]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients_through_writes(program, rng):
    x, w = points(2, 3, rng=rng), points(3, rng=rng)
    assert CHECK(program, (x, w)) and CHECK_TWICE(program, (x, w))


def test_a_base_in_another_memory_order(rng):
    def program(x, w):
        y = x.transpose(0, 1).clone()                       # keeps the order of memory: a base that is not row-major
        y[1].mul_(w[:2])
        return y * y
    x, w = points(2, 3, rng=rng), points(3, rng=rng)
    y = x.transpose(0, 1).clone()
    assert not y.is_contiguous()
    assert CHECK(program, (x, w)) and CHECK_TWICE(program, (x, w))


def test_random_programs_of_views_and_writes_against_finite_differences(rng):
    """Programs drawn at random; each is replayed from its own list of choices, so that it is a function of its inputs."""
    def run(choices, x, w):
        pool = [x * 1, w * 1]
        for kind, which, other in choices:
            t, o = pool[which % len(pool)], pool[other % len(pool)]
            if kind == 0 and t.ndim:
                pool.append(t[0])
            elif kind == 1 and t.ndim:
                pool.append(t[1:] if t.shape[0] > 1 else t[:1])
            elif kind == 2:
                pool.append(t.unsqueeze(0))
            elif kind == 3 and t.ndim > 1:
                pool.append(t.transpose(0, 1))
            elif kind == 4:
                t.mul_(1.25)
            elif kind == 5 and o.shape == t.shape:
                t.add_(o.clone() * 0.5)
            elif kind == 6:
                pool.append(t * 0.5 + 1)
            elif kind == 7:
                t.sin_()
        return sum((p * (k + 1)).sum() for k, p in enumerate(pool))
    for _ in range(25):
        choices = rng.integers(0, 8, (8, 3)).tolist()
        x, w = points(2, 2, rng=rng), points(2, rng=rng)
        assert CHECK(lambda a, b, c=choices: run(c, a, b), (x, w)), choices


# --- history ----------------------------------------------------------------------------------------------------------

def test_grad_fn_after_writes():
    y = leaf(1.0, 2.0, 3.0) * 1
    v = y[:2]
    y.mul_(2)
    assert type(y.grad_fn).__name__ == "MulBackward0" and type(v.grad_fn).__name__ == "AsStridedBackward0"
    assert names(v) == ["MulBackward0"]
    v.add_(1)
    assert type(y.grad_fn).__name__ == "CopySlices" and names(v) == ["CopySlices"] and names(y)[0] == "MulBackward0"
    y.copy_(torch.ones(3))
    assert type(y.grad_fn).__name__ == "CopyBackwards" and y.requires_grad


def test_hooks_stay_with_the_value_and_retained_gradients_follow_the_tensor():
    seen = []
    y = leaf(1.0) * 2
    y.register_hook(lambda g: seen.append(("before", g.item())))
    y.retain_grad()
    y.mul_(3)
    y.register_hook(lambda g: seen.append(("after", g.item())))
    y.sum().backward()
    assert seen == [("after", 1), ("before", 3)] and y.grad.item() == 1


def test_versions_are_shared_by_views_and_detached_tensors_but_not_by_data():
    y = leaf(1.0, 2.0) * 1
    d, v, data = y.detach(), y[0], y.data
    y.mul_(2)
    d.mul_(2)
    v.add_(1)
    data.add_(1)
    assert [t._version for t in (y, d, v, data)] == [3, 3, 3, 1]
    assert y._is_view() is False and v._is_view() and v._base is y and v.unsqueeze(0)._base is y


def test_a_view_made_before_the_base_required_grad():
    y = torch.zeros(3, dtype=torch.float64)
    v = y[:2]
    w = leaf(2.0)
    y.add_(w)
    assert v.requires_grad and y.requires_grad and not v.is_leaf
    v.sum().backward()
    assert w.grad.tolist() == [2]


def test_writing_a_view_gives_its_base_a_history():
    y, w = torch.ones(3, dtype=torch.float64), leaf(2.0, 3.0)
    v = y[:2]
    v.mul_(w)
    assert type(y.grad_fn).__name__ == "CopySlices"
    (y * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert w.grad.tolist() == [1, 10] and y.tolist() == [2, 3, 1]


def test_training_by_writes_under_no_grad():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    with torch.no_grad():
        x.sub_(0.5 * x.grad)
        x[0] = 7.0
    assert x.tolist() == [7, 0] and x.is_leaf and x.requires_grad and x._version == 2


# --- refusals ---------------------------------------------------------------------------------------------------------

HINT = ("Hint: enable anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly")


def write_result(x):
    y = torch.exp(x)
    s = y.sum()
    y.mul_(2)
    return s


def write_operand(x):
    y = torch.ones(3, dtype=torch.float64)
    s = (y * x).sum()
    y.add_(1)
    y.add_(1)
    return s


def write_second_operand(x):
    a, b = x * 1, x * 2
    a.add_(1)
    s = (a * b).sum()
    b.add_(1)
    return s


def write_through_a_view(x):
    y = x * 1
    s = (y * y).sum()
    y[0].add_(1)
    return s


def write_through_detached(x):
    y = x * 1
    s = (y * y).sum()
    y.detach().zero_()
    return s


def write_in_no_grad(x):
    y = x * 1
    s = torch.sqrt(y).sum() + (y * y).sum()
    with torch.no_grad():
        y.add_(1)
    return s


@pytest.mark.parametrize("program, made, versions", [
    (write_result, "which is output 0 of Exp, ", (1, 0)), (write_operand, "", (2, 0)),
    (write_second_operand, "which is output 0 of Add, ", (1, 0)),
    (write_through_a_view, "which is output 0 of CopySlices, ", (1, 0)),
    (write_through_detached, "which is output 0 of Mul, ", (1, 0)), (write_in_no_grad, "which is output 0 of Mul, ", (1, 0)),
], ids=lambda p: getattr(p, "__name__", ""))
def test_overwritten_saved_values_are_named(program, made, versions):
    now, before = versions
    with pytest.raises(RuntimeError, match=r"one of the variables needed for gradient computation has been modified by an "
                                           r"inplace "
                                           r"operation: \[engine\.DoubleTensor \[3\]\],? .*is at version "
                                           rf"{now}; expected version {before} instead\. {HINT}") as caught:
        program(leaf(1.0, 2.0, 3.0)).backward()
    assert "which is output" not in str(caught.value) if not made else "which is output 0 of" in str(caught.value)


def test_writes_that_spoil_nothing_are_allowed():
    x = leaf(1.0, 2.0)
    y = x * 3
    z = y + 1
    y.mul_(2)
    z.sub_(1)
    (y + z).sum().backward()
    assert x.grad.tolist() == [9, 9]


def unbind_write(x):
    torch.unbind(x * 1)[0].mul_(2)


def split_view_write(x):
    torch.split(x * 1, 2)[0][0:1].mul_(2)


def split_of_constant_write(x):
    torch.split(torch.ones(3, dtype=torch.float64), 2)[0].mul_(x[:2])


def no_grad_view_write(x):
    y = x * 1
    with torch.no_grad():
        v = y[:2]
    v.mul_(2)


def no_grad_view_of_written_base(x):
    y = x * 1
    with torch.no_grad():
        v = y[:2]
    y.mul_(2)
    return v.grad_fn


def leaf_view_write(x):
    v = torch.ones(3, dtype=torch.float64)[:2]
    v.requires_grad_()
    v.mul_(2)


@pytest.mark.parametrize("program, words", [
    (lambda x: x.add_(1), "a leaf Variable that requires grad is being used in an in-place operation."),
    (lambda x: x[:2].mul_(2), "a view of a leaf Variable that requires grad is being used in an in-place operation."),
    (leaf_view_write, "a view of a leaf Variable that requires grad is being used in an in-place operation."),
    (unbind_write, "Output 0 of Unbind is a view and is being modified inplace. This view is the output of a function that "
                   "returns multiple views."),
    (split_view_write, "Output 0 of Slice is a view and is being modified inplace. This view is the output of a function "
                       "that returns"),
    (split_of_constant_write, "This view is the output of a function that returns multiple views."),
    (no_grad_view_write, "A view was created in no_grad mode and is being modified inplace with grad mode enabled."),
    (no_grad_view_of_written_base, "A view was created in no_grad mode and its base or another view of its base has been "
                                   "modified inplace"),
    (lambda x: (x * 1).expand(2, 3).add_(1), "unsupported operation: more than one element of the written-to tensor refers "
                                             "to a single"),
], ids=range(9))
def test_writes_that_cannot_be_followed_are_refused(program, words):
    with pytest.raises(RuntimeError) as caught:
        program(leaf(1.0, 2.0, 3.0))
    assert words in str(caught.value)


def test_a_refused_write_changes_nothing():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError):
        x.add_(1)
    y = x * 1
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        y.add_(torch.ones(3, 2, dtype=torch.float64))
    assert x.tolist() == [1, 2] == y.tolist() and y._version == 0 == x._version
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_writes_seen_through_numpy_values():
    y = leaf(1.0, 2.0, 3.0) * 1
    y[1:].mul_(10)
    np.testing.assert_array_equal(y.detach().numpy(), [1, 20, 30])


@pytest.mark.parametrize("count", [5, 100_000])
def test_out_that_shares_memory_with_an_operand(count):
    base = torch.arange(count + 1.0)
    expected = np.arange(count) + 2 * np.arange(1, count + 1)
    before = base._version
    assert torch.add(base[:-1], 2 * base[1:], out=base[1:]).data_ptr() == base.data_ptr() + 4
    np.testing.assert_array_equal(base.numpy()[1:], expected.astype(np.float32))
    assert base._version > before                       # a saved value would be refused
    row = torch.full((3, 1), 7.0)
    out = torch.zeros(3, 4).T
    torch.mul(row.T, torch.ones(4, 1), out=out)       # operands broadcast into an output of any layout
    np.testing.assert_array_equal(out.numpy(), np.full((4, 3), 7.0))


def test_unary_in_place_keeps_its_memory():
    x = torch.rand(70_000)
    place, expected = x.data_ptr(), np.exp(x.numpy().astype(np.float64))
    assert x.exp_() is x and x.data_ptr() == place
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-6)
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.ones(3, dtype=torch.int64).exp_()
