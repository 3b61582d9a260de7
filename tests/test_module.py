"""Modules and parameters: registration, walking, state dicts, conversions, printing, copies, refusals. Hooks: test_module_hooks."""
import copy
import pickle

import pytest

import engine
from engine import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1, bias=False)
        self.register_buffer("count", engine.zeros(2))
        self.register_buffer("scratch", engine.zeros(2), persistent=False)
        self.scale = nn.Parameter(engine.ones(1))

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def test_parameter():
    data = engine.ones(2)
    p = nn.Parameter(data)
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert isinstance(p, engine.Tensor) and p.is_leaf and p.data_ptr() == data.data_ptr()
    for made in (p + 1, p.detach(), p.data, p.clone()):
        assert type(made) is engine.Tensor
    assert type(copy.deepcopy(p)) is nn.Parameter and type(pickle.loads(pickle.dumps(p))) is nn.Parameter
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert nn.Parameter(engine.arange(2), requires_grad=False).dtype is engine.int64
    with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
        nn.Parameter(engine.arange(2))
    with pytest.raises(TypeError, match="must be a Tensor, not list"):
        nn.Parameter([1.0])


def test_walking():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "second.weight"]
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "second"] and list(net.children()) == [net.first, net.second]
    assert list(net.state_dict()) == ["scale", "count", "first.weight", "first.bias", "second.weight"]
    net.again = net.first                           # shared modules and parameters count once
    assert len(list(net.parameters())) == 4 and len(list(net.modules())) == 3
    assert net.get_submodule("first") is net.first and net.get_parameter("first.weight") is net.first.weight
    assert net.get_buffer("count") is net.count
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Net"]
    del net.scale
    assert not hasattr(net, "scale") and "scale" not in net.state_dict()


def test_modes_gradients_and_conversions():
    net = Net()
    assert net.training and not net.eval().training and not net.first.training and net.train().first.training
    x = engine.ones(4, 2)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert not net.first.weight.grad.any().item()
    net.zero_grad()
    assert net.first.weight.grad is None
    weight = net.first.weight
    assert net.double().first.weight is weight and weight.dtype is net.count.dtype is engine.float64
    assert net.to(engine.float32).first.weight.dtype is engine.float32 and net.to("cpu") is net.cpu()
    net.requires_grad_(False)
    assert not net(x).requires_grad


def test_state_dicts():
    engine.manual_seed(0)
    net, other = Net(), Net()
    state = net.state_dict()
    assert state["first.weight"].data_ptr() == net.first.weight.data_ptr() and not state["first.weight"].requires_grad
    answer = other.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert repr(answer) == "<All keys matched successfully>"
    assert engine.equal(other(engine.ones(1, 2)), net(engine.ones(1, 2)))
    missing, unexpected = other.load_state_dict({"x": engine.zeros(1)}, strict=False)
    assert missing == list(state) and unexpected == ["x"]
    with pytest.raises(RuntimeError) as refusal:
        net.load_state_dict({"scale": engine.zeros(1), "count": engine.zeros(2), "first.weight": engine.zeros(3, 3), "x": 1})
    assert str(refusal.value) == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "first.bias", "second.weight". \n\t'
        'Unexpected key(s) in state_dict: "x". \n\tsize mismatch for first.weight: copying a param with shape '
        "engine.Size([3, 3]) from checkpoint, the shape in current model is engine.Size([3, 2]).")
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        net.load_state_dict([1])
    given = {k: v.clone() for k, v in state.items()}
    other.load_state_dict(given, assign=True)
    assert other.first.weight.data_ptr() == given["first.weight"].data_ptr() and isinstance(other.first.weight, nn.Parameter)
    assert copy.deepcopy(net).first.weight is not net.first.weight


def test_printing():
    net = Net()
    assert repr(net) == ("Net(\n  (first): Linear(in_features=2, out_features=3, bias=True)\n"
                         "  (second): Linear(in_features=3, out_features=1, bias=False)\n)")
    outer = nn.Module()
    outer.net = net
    assert repr(outer) == "Module(\n  (net): " + repr(net).replace("\n", "\n  ") + "\n)"

    class Talks(nn.Module):
        def __init__(self, text):
            super().__init__()
            self.text = text

        def extra_repr(self):
            return self.text
    assert repr(Talks("a=1")) == "Talks(a=1)" and repr(Talks("a=1\nb=2")) == "Talks(\n  a=1\n  b=2\n)"
    both = Talks("a=1")
    both.inner = Talks("")
    assert repr(both) == "Talks(\n  a=1\n  (inner): Talks()\n)"


def test_refusals():
    net = Net()

    class Early(nn.Module):
        def __init__(self, value):
            self.value = value
    for make, error, words in [
            (lambda: nn.Module(1), TypeError, r"Module.__init__\(\) takes 1 positional argument but 2 were given"),
            (lambda: nn.Module(a=1), TypeError, r"Module.__init__\(\) got an unexpected keyword argument 'a'"),
            (lambda: nn.Module()(1), NotImplementedError, r'Module \[Module\] is missing the required "forward" function'),
            (lambda: Early(nn.Linear(1, 1)), AttributeError, r"cannot assign module before Module.__init__\(\) call"),
            (lambda: Early(nn.Parameter(engine.ones(1))), AttributeError, "cannot assign parameters before"),
            (lambda: net.nothing, AttributeError, "'Net' object has no attribute 'nothing'"),
            (lambda: setattr(net, "first", 3), TypeError, "cannot assign 'int' as child module 'first'"),
            (lambda: setattr(net, "scale", engine.ones(1)), TypeError,
             "cannot assign 'engine.FloatTensor' as parameter 'scale'"),
            (lambda: setattr(net, "count", 3), TypeError, "cannot assign 'int' as buffer 'count'"),
            (lambda: net.register_buffer("a.b", engine.ones(1)), KeyError, "buffer name can.*t contain"),
            (lambda: net.register_buffer("a", 1), TypeError, "cannot assign 'int' object to buffer 'a'"),
            (lambda: net.register_parameter("q", engine.ones(1)), TypeError, "cannot assign 'engine.FloatTensor' object to"),
            (lambda: net.register_parameter("forward", nn.Parameter(engine.ones(1))), KeyError,
             "attribute 'forward' already exists"),
            (lambda: net.add_module("z", 3), TypeError, "int is not a Module subclass"),
            (lambda: net.add_module("", nn.Linear(1, 1)), KeyError, "module name can.*t be empty"),
            (lambda: net.add_module(3, nn.Linear(1, 1)), TypeError, "module name should be a string. Got int"),
            (lambda: net.train(3), ValueError, "training mode is expected to be boolean"),
            (lambda: net.to(engine.int64), TypeError, "only accepts floating point or complex dtypes"),
            (lambda: net.get_submodule("zz"), AttributeError, "Net has no attribute `zz`"),
            (lambda: net.get_parameter("first.x"), AttributeError, "Linear has no attribute `x`"),
            (lambda: net.get_parameter("count"), AttributeError, "`count` is not an nn.Parameter"),
            (lambda: net.get_buffer("scale"), AttributeError, "`scale` is not a buffer"),
            (lambda: net.get_submodule("scale"), AttributeError, "`scale` is not an nn.Module"),
            (lambda: net.set_submodule("", nn.Identity()), ValueError, "Cannot set the submodule without a target name"),
            (lambda: net.set_submodule("z", nn.Identity(), strict=True), AttributeError, "Net has no attribute `z`"),
            (lambda: net.set_submodule("scale", nn.Identity()), AttributeError, "`scale` is not an nn.Module"),
            (lambda: net.set_submodule("first", 3), ValueError, "`module` is not an nn.Module, found <class 'int'>"),
            (lambda: setattr(net, "scale", nn.Identity()), TypeError, "as parameter 'scale'"),
            (lambda: net.register_parameter("r", nn.Parameter(engine.ones(1), requires_grad=False).mul_(net.scale)), ValueError,
             "Cannot assign non-leaf Tensor to parameter 'r'"),
            (lambda: net.to(bla=1), TypeError, "unexpected keyword argument 'bla'"),
            (lambda: net.to("cpu", "cpu"), TypeError, "the second one must be a dtype"),
            (lambda: net.get_extra_state(), RuntimeError, "should never be called"),
            (lambda: net.set_extra_state(1), RuntimeError, "should never be called"),
            (lambda: delattr(net, "nothing"), AttributeError, "nothing")]:
        with pytest.raises(error, match=words):
            make()


class Silent(nn.Module):
    def __init__(self):
        pass

    def forward(self, x):
        return x


def test_without_init():
    module = Silent()
    for make in (lambda: module(1), lambda: list(module.parameters()), lambda: module.nothing,
                 lambda: module.register_buffer("a", None), lambda: module.add_module("a", nn.Identity())):
        with pytest.raises(AttributeError):
            make()
    module.plain = 3
    del module.plain


def test_names_go_to_one_place():
    m = nn.Module()
    m.a = 3
    m.a = nn.Parameter(engine.ones(1))
    assert list(m._parameters) == ["a"] and "a" not in m.__dict__
    m.a = None
    assert m.a is None and list(m.state_dict()) == [] and list(m.parameters()) == []
    m.b = nn.Identity()
    m.b = nn.Parameter(engine.zeros(1))
    assert list(m.children()) == [] and list(m.state_dict()) == ["b"]
    m.c, m.d = nn.Buffer(engine.ones(1), persistent=False), nn.Buffer(engine.ones(1))
    assert isinstance(m.c, nn.Buffer) and type(m.c) is engine.Tensor and not isinstance(engine.ones(1), nn.Buffer)
    assert list(m.state_dict()) == ["b", "d"]
    m.c = engine.zeros(1)                           # a buffer stays what it is
    assert list(m.state_dict()) == ["b", "d"] and [n for n, _ in m.named_buffers()] == ["c", "d"]
    m.c = nn.Buffer(engine.zeros(1))
    assert list(m.state_dict()) == ["b", "c", "d"]
    m.d = nn.Parameter(engine.zeros(1))
    assert [n for n, _ in m.named_buffers()] == ["c"]
    del m.c
    assert "c" not in dir(m) and "d" in dir(m)
    m.e = nn.Identity()
    m.e = None
    assert m.e is None and list(m.children()) == []


def test_walking_options():
    net = Net()
    net.inner = nn.Sequential(nn.Identity(), net.second)
    assert [n for n, _ in net.named_parameters(prefix="q")] == ["q.scale", "q.first.weight", "q.first.bias", "q.second.weight"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == [
        "scale", "first.weight", "first.bias", "second.weight", "inner.1.weight"]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"] and len(list(net.buffers(recurse=False))) == 2
    assert [n for n, _ in net.named_modules(prefix="r", remove_duplicate=False)] == [
        "r", "r.first", "r.second", "r.inner", "r.inner.0", "r.inner.1"]
    assert len(list(net.modules())) == 5 and len(list(net.modules(remove_duplicate=False))) == 6
    assert net.get_submodule("inner.1") is net.second and net.get_submodule("") is net
    net.set_submodule("inner.0", nn.Flatten())
    assert type(net.inner[0]) is nn.Flatten
    other = nn.Linear(2, 3)
    other.weight = net.first.weight                 # a shared parameter
    pair = nn.Sequential(net.first, other)
    assert [n for n, _ in pair.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(pair.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_state_dict_options():
    net = Net()
    assert next(iter(net.state_dict(prefix="z."))) == "z.scale" and net.state_dict(keep_vars=True)["scale"] is net.scale
    kept = {"k": 1}
    assert net.state_dict(destination=kept) is kept and list(kept)[:2] == ["k", "scale"]
    assert net.state_dict()._metadata == {"": {"version": 1}, "first": {"version": 1}, "second": {"version": 1}}
    number = nn.Module()
    number.register_buffer("x", engine.tensor(3.0))
    number.load_state_dict({"x": engine.ones(1)})       # as early checkpoints kept numbers
    assert number.x.shape == () and number.x.item() == 1
    with pytest.raises(RuntimeError, match=r'While copying the parameter named "x", expected engine.Tensor or Tensor-like object '
                                           r"from checkpoint but received <class 'int'>"):
        number.load_state_dict({"x": 3})
    frozen = nn.Parameter(engine.zeros(1), requires_grad=False)
    net.load_state_dict({"scale": frozen}, strict=False, assign=True)
    assert net.scale is frozen and frozen.requires_grad         # values are taken, the model's requires_grad stays


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = 1

    def get_extra_state(self):
        return {"seen": self.seen}

    def set_extra_state(self, state):
        self.seen = state["seen"]


def test_extra_state():
    net, other = nn.Sequential(Counted()), nn.Sequential(Counted())
    net[0].seen = 7
    assert net.state_dict() == {"0._extra_state": {"seen": 7}}
    other.load_state_dict(net.state_dict())
    assert other[0].seen == 7
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0._extra_state"'):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0._extra_state"'):
        nn.Sequential(nn.Identity()).load_state_dict(net.state_dict())


def test_all_forms_of_to():
    net = Net()
    net(engine.ones(1, 2)).sum().backward()
    scale, grad = net.scale, net.scale.grad
    for change, dtype in [(lambda: net.to(engine.ones(1, dtype=engine.float64)), engine.float64),
                          (lambda: net.float(), engine.float32),
                          (lambda: net.to("cpu", engine.float64), engine.float64), (lambda: net.half(), engine.float16),
                          (lambda: net.to(dtype=engine.float32, non_blocking=True), engine.float32),
                          (lambda: net.type(engine.float64), engine.float64),
                          (lambda: net.to(engine.float32, True), engine.float32),
                          (lambda: net.to_empty(device="cpu"), engine.float32)]:
        assert change() is net and net.scale is scale and scale.grad is grad
        assert scale.dtype is grad.dtype is net.count.dtype is net.scratch.dtype is dtype
    with pytest.warns(UserWarning, match="Complex modules are a new feature"):
        assert net.to(engine.complex64).scale.dtype is engine.complex64


def test_copies():
    net = Net()
    net(engine.ones(1, 2)).sum().backward()
    net.register_forward_hook(print)
    net.tied = net.first
    made = copy.deepcopy(net)
    assert made.first is made.tied and made.first.weight is not net.first.weight and len(made._forward_hooks) == 1
    assert engine.equal(made.first.weight, net.first.weight) and repr(made) == repr(net)
    assert net.scale.grad is not None and made.scale.grad is None and made.scale.requires_grad
    loaded = pickle.loads(pickle.dumps(net))
    assert loaded.first is loaded.tied and type(loaded.scale) is nn.Parameter
    assert list(loaded.state_dict()) == list(net.state_dict())
    older = nn.Module.__new__(nn.Module)
    older.__setstate__({"training": True, "_parameters": {}, "_buffers": {}, "_modules": {}})       # of a version with fewer hooks
    assert repr(older) == "Module()" and list(older.state_dict()) == []
