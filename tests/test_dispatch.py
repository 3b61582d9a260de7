"""The dispatch table as users see it: reading it, replacing kernels, going back."""
import numpy as np
import pytest

import engine
from kernels.book import BOOK


def test_every_operator_has_an_entry_for_both_devices():
    table = engine.dispatch.table()
    names = {name for name, _ in table}
    assert names == set(BOOK) and {"add", "mul", "exp", "sum", "matmul", "bmm", "where", "gather"} <= names
    assert all((name, device) in table for name in names for device in ("cpu", "cuda"))
    assert len(table) == 2 * len(names)
    text = repr(table)
    assert "exp" in text and "cpu" in text and "cuda" in text


def test_missing_entries_are_key_errors():
    table = engine.dispatch.table()
    assert ("nonsense", "cpu") not in table
    with pytest.raises(KeyError):
        table["add", "tpu"]


def test_a_user_kernel_replaces_the_books_and_can_be_taken_back():
    calls = []

    @engine.dispatch.register("exp", "cpu")
    def exp(x):
        calls.append(x.shape)
        return np.exp(x) + 1
    try:
        x = engine.tensor([0.0, 1.0], requires_grad=True)
        y = x.exp()
        np.testing.assert_allclose(y.detach().numpy(), np.exp([0.0, 1.0]) + 1, rtol=1e-6)
        assert calls == [(2,)] and "(user)" in repr(engine.dispatch.table())
        y.sum().backward()                      # the derivative stays the operator's, in terms of its output
        np.testing.assert_allclose(x.grad.numpy(), y.detach().numpy(), rtol=1e-6)
    finally:
        engine.dispatch.table().unregister("exp", "cpu")
    np.testing.assert_allclose(engine.tensor([0.0]).exp().numpy(), [1.0])


def test_a_user_kernel_of_a_fold():
    engine.dispatch.register("sum", "cpu", lambda x, dims=None, keepdim=False: np.asarray(x.sum(dims, keepdims=keepdim) + 100))
    try:
        assert engine.ones(2, 3).sum(0).tolist() == [102.0] * 3
    finally:
        engine.dispatch.table().unregister("sum", "cpu")
    assert engine.ones(2, 3).sum(0).tolist() == [2.0] * 3


def test_what_cannot_be_registered():
    with pytest.raises(KeyError, match="no operator named 'nonsense'"):
        engine.dispatch.register("nonsense", "cpu", lambda x: x)
    with pytest.raises(ValueError, match="device must be one of"):
        engine.dispatch.register("add", "tpu", lambda x, y: x)
    with pytest.raises(TypeError, match="callable"):
        engine.dispatch.register("add", "cpu", 3)


def test_a_shape_that_needs_a_copy_gets_one_while_a_kernel_is_replaced():
    engine.dispatch.register("exp", "cpu", np.exp)
    try:
        assert engine.arange(6).view(2, 3).T.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            engine.arange(6).view(2, 3).T.view(6)
    finally:
        engine.dispatch.table().unregister("exp", "cpu")
