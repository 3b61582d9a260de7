"""Tensors on a CUDA device (an emulated one) beside the same calls on the CPU: every record, then what users do.

The kernels themselves are proved in test_cuda_pointwise.py and its kin; here stands what is between them and the user: devices,
views, in-place writes, copies, the tape, networks, errors.
"""
import copy
import pickle

import numpy as np
import pytest
from cuda_checks import agree, needs_numba_cuda

import engine
from engine import nn, testing
from engine.nn import functional as F
from kernels.book import BOOK, Structural

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]


def moved(value, device="cuda"):
    if isinstance(value, engine.Tensor):
        return value.detach().to(device).requires_grad_(value.requires_grad)
    return type(value)(moved(v, device) for v in value) if isinstance(value, (list, tuple)) else value


def beside(call, *operands, ulp=8.0):
    """`call` on the CPU and on the device: results on the right device, equal up to rounding, the same class and shape."""
    for want, got in zip(_flat(call(*operands)), _flat(call(*moved(operands))), strict=True):
        assert got.device == engine.device("cuda:0"), got
        assert got.dtype is want.dtype and got.requires_grad == want.requires_grad
        want = want.detach().numpy()
        agree(got.detach().cpu().numpy(), want, ulp=ulp, scale=float(np.abs(want).max(initial=0)) if want.dtype.kind in "fc" else 0)


def _flat(value):
    return [v for part in value for v in _flat(part)] if isinstance(value, (list, tuple)) else [value]


# --- records ----------------------------------------------------------------------------------------------------------

STRUCTURAL = [op for op in BOOK.values() if isinstance(op, Structural) and op.samples is not None]


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in STRUCTURAL])
def test_structural_records(op, rng):
    for arrays, options in op.samples(rng, "float32"):
        tensors = [engine.tensor(a) for a in arrays]
        if op.many:
            beside(lambda *xs, options=options: op(list(xs), **options), *tensors, ulp=64)
        else:
            beside(lambda *xs, options=options: op(*xs, **options), *tensors, ulp=64)


@pytest.mark.parametrize("name", ["add", "div", "exp", "where", "lerp", "eq", "sigmoid", "remainder"])
def test_pointwise_records_and_their_gradients(name, rng):
    op = BOOK[name]
    shapes = [(3, 1), (4,), (2, 1, 1)][:len(op.inputs)]
    arrays = [testing.draw(rng, op, n, t, s) for n, t, s in zip(op.inputs, op.operand_types("float32"), shapes, strict=True)]

    def call(*tensors):
        leaves = [t.requires_grad_() if t.is_floating_point() and op.differentiable else t for t in tensors]
        result = op(*leaves)
        if not op.differentiable:
            return result
        wanted = [t for t in leaves if t.requires_grad]
        return result, engine.autograd.grad((result * result).sum(), wanted, allow_unused=True)[:len(wanted)]
    beside(lambda *xs: [r for r in _flat(call(*xs)) if r is not None], *map(engine.as_tensor, arrays))


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "argmax", "var", "any", "logsumexp"])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2)])
def test_folds(name, dim, rng):
    x = engine.as_tensor(rng.standard_normal((3, 5, 4)).astype(np.float32))
    if isinstance(dim, tuple) and name == "argmax":
        pytest.skip("argmax folds one dimension or all")
    if dim is None and name == "logsumexp":
        dim = (0, 1, 2)
    for given in (x, x.permute(2, 0, 1), x[:, ::2]):
        beside(lambda t: getattr(engine, name)(t) if dim is None else getattr(engine, name)(t, dim), given)


def test_the_table_names_every_record_on_both_devices():
    table = engine.dispatch.table()
    for op in BOOK.values():
        entry = table[op.name, "cuda"]
        assert entry.runs_on in ("cuda", "host")
        assert entry.runs_on == "cuda" or isinstance(op, Structural)
    assert table["exp", "cuda"].runs_on == table["sum", "cuda"].runs_on == table["view", "cuda"].runs_on == "cuda"
    assert table["linalg_qr", "cuda"].runs_on == "host" if "linalg_qr" in BOOK else True


# --- what users do ----------------------------------------------------------------------------------------------------

def test_devices_and_moves():
    x = engine.tensor([1.0, 2.0], device="cuda")
    assert x.device == engine.device("cuda:0") and x.is_cuda and x.get_device() == 0 and not x.is_cpu
    assert str(x) == "tensor([1., 2.], device='cuda:0')"
    assert x.cpu().tolist() == [1.0, 2.0] and x.cpu().device.type == "cpu" and x.cuda() is x and x.to("cuda") is x
    assert x.double().device.index == 0 and x.to("cpu", engine.float64).dtype is engine.float64
    assert engine.zeros(2, device="cuda").is_cuda and engine.zeros_like(x).is_cuda and x.new_ones(3).is_cuda
    assert engine.arange(3, device="cuda").tolist() == [0, 1, 2]
    with engine.device("cuda"):
        assert engine.ones(1).is_cuda and engine.tensor(3).is_cuda and engine.randn(2).is_cuda
        assert nn.Linear(2, 1).weight.is_cuda and engine.ones_like(engine.ones(1, device="cpu")).is_cpu
    assert engine.ones(1).is_cpu
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone()):
        assert again.device == x.device and again.tolist() == x.tolist() and again.data_ptr() != x.data_ptr()


def test_two_devices():
    if engine.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    x = engine.tensor([1.0, 2.0], device="cuda")
    there = x.to("cuda:1")
    assert there.device.index == 1 and there.tolist() == [1.0, 2.0] and (there + there).get_device() == 1
    assert engine.eye(2, device="cuda:1").get_device() == 1 and there.cuda().get_device() == 0
    assert pickle.loads(pickle.dumps(there)).device == there.device and engine.from_dlpack(there).device == there.device
    with pytest.raises(RuntimeError, match="same device"):
        x + there
    x.requires_grad_()
    (x.to("cuda:1") ** 2).sum().backward()
    assert x.grad.get_device() == 0 and x.grad.tolist() == [2.0, 4.0]


def test_numbers_of_the_cpu_join_tensors_with_dimensions_do_not():
    x = engine.ones(2, device="cuda")
    assert (x + engine.tensor(2.0)).tolist() == [3.0, 3.0] and (x * 2).is_cuda and (2 - x).is_cuda
    for call in (lambda: x + engine.ones(2), lambda: x @ engine.ones(2), lambda: engine.cat([x, engine.ones(2)]),
                 lambda: engine.where(engine.ones(2, dtype=engine.bool), x, x),
                 lambda: F.linear(engine.ones(1, 2), x)):
        with pytest.raises(RuntimeError, match="same device"):
            call()
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        x.numpy()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        x.to("cuda:7")
    assert x.numpy(force=True).tolist() == [1.0, 1.0]


def test_views_share_memory_and_in_place_writes_reach_them():
    x = engine.arange(12.0, device="cuda").reshape(3, 4)
    row, turned, part = x[1], x.t(), x[:, 1::2]
    assert row.data_ptr() == x.data_ptr() + 16 and turned.stride() == (1, 4) and part.stride() == (4, 2)
    assert (row.storage_offset(), part.storage_offset(), x.storage_offset()) == (4, 1, 0) and part._base is not None
    row += 10
    part[0] = -1.0
    turned[3, 2] = 99
    assert x.tolist() == [[0, -1, 2, -1], [14, 15, 16, 17], [8, 9, 10, 99]]
    x[1:] = x[:-1].clone()
    x[x < 0] = 0.5
    x[[0, 2], 1] = engine.tensor([7.0, 8.0], device="cuda")
    assert x.tolist() == [[0, 7, 2, 0.5], [0, 0.5, 2, 0.5], [14, 8, 16, 17]]
    x[1:] = x[:-1]                                    # overlapping
    assert x.tolist() == [[0, 7, 2, 0.5], [0, 7, 2, 0.5], [0, 0.5, 2, 0.5]]
    assert x.expand(2, 3, 4).sum().item() == 2 * x.sum().item()
    with pytest.raises(RuntimeError, match="single memory location"):
        engine.ones(1, device="cuda").expand(3).add_(1)


def test_the_tape_runs_on_the_device():
    def rosenbrock(x):
        x = x.requires_grad_()
        y = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        g, = engine.autograd.grad(y, x, create_graph=True)
        y.backward(retain_graph=True)
        h = engine.stack([engine.autograd.grad(g[k], x, retain_graph=True)[0] for k in range(2)])
        return y, g, x.grad, h
    beside(rosenbrock, engine.tensor([-1.2, 1.0]))
    x = engine.tensor([1.0, 2.0], requires_grad=True)
    (x.cuda() ** 2).sum().backward()
    assert x.grad.is_cpu and x.grad.tolist() == [2.0, 4.0]


def test_random_numbers_are_those_of_the_cpu():
    for call in (lambda d: engine.rand(5, device=d), lambda d: engine.randn(2, 3, device=d),
                 lambda d: engine.randint(7, (6,), device=d), lambda d: engine.randperm(9, device=d),
                 lambda d: engine.empty(4, device=d).uniform_(-1, 1),
                 lambda d: engine.zeros(4, device=d).normal_(), lambda d: engine.bernoulli(engine.full((9,), 0.5, device=d)),
                 lambda d: F.dropout(engine.ones(9, device=d))):
        engine.manual_seed(3)
        here = call("cpu")
        engine.manual_seed(3)
        assert call("cuda").cpu().tolist() == here.tolist()


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "LBFGS"])
def test_a_network_learns_the_same_numbers(optimizer, rng):
    x, t = (engine.as_tensor(a) for a in (rng.standard_normal((6, 3)), rng.integers(0, 2, 6)))

    def train(x, t):
        engine.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(x.device, x.dtype)
        steps = getattr(engine.optim, optimizer)(model.parameters(), lr=0.1, **({"max_iter": 3} if optimizer == "LBFGS" else {}))

        def closure():
            steps.zero_grad()
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            return loss
        losses = [steps.step(closure).detach() for _ in range(3)]
        return losses, [p.detach() for p in model.parameters()]
    beside(train, x, t, ulp=2000)


def test_other_libraries_see_the_memory():
    x = engine.arange(6, device="cuda").reshape(2, 3)[:, 1:]
    about = x.__cuda_array_interface__
    assert about["shape"] == (2, 2) and about["strides"] == (24, 8) and about["typestr"] == "<i8" and about["version"] == 3
    assert about["data"] == (x.data_ptr(), False)
    with pytest.raises(AttributeError, match="Can't get __cuda_array_interface__ on non-CUDA tensor"):
        getattr(engine.ones(1), "__cuda_array_interface__")  # noqa: B009


def test_dlpack_shares_memory_both_ways():
    for x in (engine.arange(6, device="cuda").reshape(2, 3)[:, 1:], engine.tensor(1.5, device="cuda"),
              engine.zeros(0, 2, device="cuda", dtype=engine.complex64), engine.ones(2, device="cuda", dtype=engine.bool)):
        assert x.__dlpack_device__() == (2, x.get_device())
        y = engine.from_dlpack(x)
        assert (y.device, y.dtype, y.shape, y.stride()) == (x.device, x.dtype, x.shape, x.stride())
        assert y.data_ptr() == x.data_ptr() and y.tolist() == x.tolist()
    x = engine.ones(3, device="cuda")
    y = engine.from_dlpack(x)
    x += 1
    assert y.tolist() == [2.0, 2.0, 2.0]
    del x
    assert y.sum().item() == 6.0                        # the capsule keeps the memory
    capsule = engine.ones(2, device="cuda").__dlpack__()
    assert "dltensor" in repr(capsule)
    del capsule                                         # never taken: nothing is lent any more
    from engine import dlpack
    assert len(dlpack._lent) == 1
    del y
    assert not dlpack._lent


def test_arrays_of_other_libraries_become_tensors():
    own = engine.arange(4.0, device="cuda")

    class Foreign:
        __cuda_array_interface__ = own.__cuda_array_interface__
    shared = engine.as_tensor(Foreign())
    assert shared.data_ptr() == own.data_ptr() and engine.tensor(Foreign()).data_ptr() != own.data_ptr()
    own[0] = 5
    assert shared.tolist() == [5.0, 1.0, 2.0, 3.0]


def test_a_kernel_of_the_users_own():
    def tripled(x):
        return x.compute(BOOK["mul"], (x, engine.tensor(3.0, device="cuda")._array), {})
    engine.dispatch.register("exp", "cuda", tripled)
    try:
        assert engine.exp(engine.ones(2, device="cuda")).tolist() == [3.0, 3.0]
        assert engine.dispatch.table()["exp", "cuda"].custom is tripled
    finally:
        engine.dispatch.table().unregister("exp", "cuda")
    assert engine.exp(engine.zeros(2, device="cuda")).tolist() == [1.0, 1.0]


def test_page_locked_memory():
    x = engine.arange(6.0).reshape(2, 3).T
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and pinned.tolist() == x.tolist() and pinned.pin_memory() is pinned
    assert pinned[1:].is_pinned() and pinned.to("cuda", non_blocking=True).tolist() == x.tolist()
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        x.cuda().pin_memory()


# --- above the operators ------------------------------------------------------------------------------------------------------

def test_a_user_kernel_runs_on_both_devices():
    @engine.elementwise
    def steps(n, scale):
        k = 0.0
        while n > 1.0 and k < 50:
            n = n / 2 if n % 2 == 0 else 3 * n + 1
            k += 1
        return k * scale * n
    beside(lambda x: steps(x, 0.5), engine.tensor([3.0, 7.0, 27.0]))

    @engine.elementwise
    def damped(x, a):
        s = 0.0
        for k in range(3):
            s += x * a / (1 + k * x * x)
        return s

    def with_gradient(x, a):
        x, a = x.requires_grad_(), a.requires_grad_()
        y = damped(x, a)
        return y, engine.autograd.grad((y * y).sum(), (x, a))
    beside(with_gradient, engine.tensor([0.5, -1.5, 2.0]), engine.tensor([[1.0], [2.0]]), ulp=64)


def test_what_runs_eagerly_or_on_the_host_says_so_and_is_right():
    compiled = engine.compile(lambda x: (x.sin() * 2).sum())
    x = engine.tensor([0.5, 1.5])
    with pytest.warns(UserWarning, match="runs eagerly on cuda:0"):
        there = compiled(x.cuda())
    assert there.is_cuda and there.item() == pytest.approx(compiled(x).item(), rel=1e-6)
    beside(engine.func.vmap(lambda v: v * v.sum()), engine.arange(6.0).reshape(3, 2))
    beside(engine.func.jacrev(lambda v: v ** 3), x)

    def rosenbrock(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    for start, dims in ((engine.tensor([-1.2, 1.0]), 0), (engine.tensor([[-1.2, 1.0], [2.0, 0.5]]), 1)):
        found = engine.optimize.minimize(rosenbrock, start.double().cuda(), batch_dims=dims)
        assert found.x.is_cuda and engine.allclose(found.x.cpu(), engine.ones(2).double(), atol=1e-3)
    found = engine.optimize.root(lambda x: x * x - 2, engine.ones(1, dtype=engine.float64, device="cuda"))
    assert found.x.is_cuda and found.x.item() == pytest.approx(2 ** 0.5)


def test_tensors_are_saved_and_loaded_with_their_device(tmp_path):
    file = tmp_path / "t.pt"
    engine.save({"x": engine.arange(3, device="cuda")}, file)
    assert engine.load(file)["x"].device == engine.device("cuda:0")
    assert engine.load(file, map_location="cpu")["x"].is_cpu
