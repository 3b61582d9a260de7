"""Question: what do compiled functions cost, value and gradients in one call, beside compiled peers?

`engine.compile` takes a whole function, gradients and update included, as `jax.jit` does. PyTorch has two columns: eager, and
"inductor", its own compiler (it wants a C++ compiler), whose function is differentiated outside, as its users do. PyTensor is
measured on the small problem. The last group starts processes: seconds of the first call of a compiled function of 20 operators
and of its gradient, with an empty store and with a full one; import and argument are made before the clock starts.
"""
import functools
import tempfile

import numpy as np

from perf.cases.process import launch
from perf.harness import Case, Group

PEERS = ("torch", "inductor", "jax", "pytensor")


def both_ways(function, *shapes):
    """A case of a function of tensors and its gradients, for float32 operands and a cotangent of the result's shape.

    `function(xp, *operands)` is written with names that all libraries share. The sample's result is a tuple: the first
    gradient, the other gradients, the value.
    """

    def build(xp):
        if xp.name == "pytensor":
            return None
        rng = np.random.default_rng(0)
        data = [(rng.standard_normal(s) * (0.1 if len(s) == 2 and k else 1)).astype(np.float32) for k, s in enumerate(shapes)]
        operands = [xp.array(a) for a in data]

        def f(*args):
            return function(xp, *args)

        shape = tuple(f(*operands).shape)
        g = xp.array(np.asarray(rng.standard_normal(shape), np.float32))
        return differentiated(xp, f, operands, g)

    return build


def differentiated(xp, f, operands, g):
    """A thunk of value and gradients of f in a library's fastest way: one compiled call, or forward and backward."""
    if xp.name == "jax":
        def step(g, *args):
            value, pull = xp.vjp(f, *args)
            return *pull(g), value
        compiled = xp.jit(step)
        return lambda: compiled(g, *operands)
    operands = [t.requires_grad_() for t in operands]
    grad = xp.autograd.grad

    def step(g, *args):
        value = f(*args)
        return *grad(value, args, g), value.detach()
    if xp.name == "engine":
        step = xp.compile(step)
    elif xp.name == "inductor":
        forward = xp.compile(f)

        def step(g, *args):
            value = forward(*args)
            return *grad(value, args, g), value.detach()
    return lambda: step(g, *operands)


def rosenbrock_small(xp):
    """Value and gradient of the function of two variables, in the dtype that the library prefers (PyTensor's case: float64)."""
    def f(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    start = np.array([-1.2, 1.0])
    if xp.name == "pytensor":
        x = xp.tensor.dvector("x")
        compiled = xp.function([x], [xp.grad(f(x), x), f(x)])
        return lambda: tuple(compiled(start))
    x = xp.array(start)
    if xp.name == "jax":
        compiled = xp.jit(xp.value_and_grad(f))
        return lambda: compiled(x)[::-1]
    if xp.name == "engine":
        compiled = xp.compile(xp.func.grad_and_value(f))
        return lambda: compiled(x)
    forward = xp.compile(f) if xp.name == "inductor" else f
    x.requires_grad_()

    def step():
        value = forward(x)
        return *xp.autograd.grad(value, (x,)), value.detach()
    return step


def rosenbrock_large(xp, x):
    """The chained function of many variables."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def chain(xp, x):
    """Twelve pointwise operators."""
    y = xp.tanh(x * 1.5 + 0.25)
    y = xp.sin(y) * x
    y = xp.exp(-y * y) + 0.5
    return xp.log(y) * xp.sqrt(y)


def softmax(xp, x):
    """Rows that sum to one."""
    return xp.nn.softmax(x, -1) if xp.name == "jax" else xp.softmax(x, -1)


def logsumexp(xp, x):
    """The logarithm of each row's sum of exponentials."""
    return xp.logsumexp(x, -1)


def layer_norm(xp, x, w, b):
    """Each row at mean 0 and variance 1, times a weight, plus a bias."""
    if xp.name == "jax":
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / xp.sqrt(variance + 1e-5) * w + b
    return xp.nn.functional.layer_norm(x, x.shape[-1:], w, b, 1e-5)


def gelu_block(xp, x, w1, b1, w2, b2):
    """Two linear maps with a GELU between them."""
    gelu = functools.partial(xp.nn.gelu, approximate=False) if xp.name == "jax" else xp.nn.functional.gelu
    return gelu(x @ w1.T + b1) @ w2.T + b2


def digits_step(xp):
    """One step of SGD with momentum on a 64-128-64-10 network, batch 64: gradients and update in one compiled function."""
    if xp.name == "pytensor":
        return None
    rng = np.random.default_rng(0)
    data, labels = rng.random((64, 64), np.float32), rng.integers(0, 10, 64)
    if xp.name == "jax":
        return digits_jax(xp, rng, data, labels)
    torch, functional = xp, xp.nn.functional
    torch.manual_seed(0)
    layers = [xp.nn.Linear(64, 128), xp.nn.ReLU(), xp.nn.Linear(128, 64), xp.nn.ReLU(), xp.nn.Linear(64, 10)]
    net = xp.nn.Sequential(*layers)
    optimizer = xp.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def loss_of(x, target):
        return functional.cross_entropy(net(x), target)
    forward = xp.compile(loss_of) if xp.name == "inductor" else loss_of

    def step(x, target):
        optimizer.zero_grad()
        loss = forward(x, target)
        loss.backward()
        optimizer.step()
        return loss.detach()
    if xp.name == "engine":
        step = xp.compile(step)
    x, target = xp.array(data), xp.array(labels)
    return lambda: step(x, target)


def digits_jax(xp, rng, data, labels):
    """The same step for JAX; parameters and momenta are donated, as its users do."""
    sizes = ((64, 128), (128, 64), (64, 10))
    parameters = [(xp.array(rng.standard_normal((n, m)).astype(np.float32) * n ** -0.5), xp.array(np.zeros(m, np.float32)))
                  for n, m in sizes]
    state = [parameters, [(0 * w, 0 * b) for w, b in parameters]]

    def loss_of(parameters, x, target):
        for k, (w, b) in enumerate(parameters):
            x = (xp.nn.relu(x) if k else x) @ w + b
        return -xp.take_along_axis(xp.nn.log_softmax(x), target[:, None], 1).mean()

    def step(parameters, momenta, x, target):
        loss, gradients = xp.value_and_grad(loss_of)(parameters, x, target)
        momenta = [tuple(0.9 * v + g for v, g in zip(vs, gs, strict=True)) for vs, gs in zip(momenta, gradients, strict=True)]
        parameters = [tuple(p - 0.1 * v for p, v in zip(ps, vs, strict=True))
                      for ps, vs in zip(parameters, momenta, strict=True)]
        return parameters, momenta, loss
    compiled = xp.jit(step, donate_argnums=(0, 1))
    x, target = xp.array(data), xp.array(labels)

    def once():
        state[0], state[1], loss = compiled(*state, x, target)
        return loss
    return once


# Prints the seconds of the first call of a compiled function of 20 operators with its gradient, without import and argument.
FIRST = """
{imports}
import time
start = time.perf_counter()
{body}
print(time.perf_counter() - start)
"""

TWENTY = """
def f(x):
    y = torch.tanh(x * 2 + 1)
    y = torch.sin(y) * torch.cos(x)
    y = torch.exp(-y * y) + x
    y = torch.sqrt(y * y + 1) - torch.sigmoid(y)
    y = torch.log(y * y + 2) * 3
    return (y / (x * x + 1)).mean()
"""

TORCH_BODY = TWENTY + """
forward = torch.compile(f)
value = forward(x)
gradient, = torch.autograd.grad(value, x)
gradient.tolist()
"""

JAX_BODY = TWENTY.replace("torch.sigmoid", "jax.nn.sigmoid").replace("torch", "jnp") + """
value, gradient = jax.jit(jax.value_and_grad(f))(x)
gradient.block_until_ready()
"""


def first_call(full):
    """A case of the seconds to a compiled function's first result; `full`: in a process after the one that filled the store."""

    def build(xp):
        if xp.name == "pytensor" or (full and xp.name != "engine"):
            return None
        if xp.name == "jax":
            source = FIRST.format(imports="import jax, jax.numpy as jnp\nx = jnp.linspace(-1, 1, 1000)", body=JAX_BODY)
        else:
            imports = f"import {xp.module.__name__} as torch\nx = torch.linspace(-1, 1, 1000, requires_grad=True)"
            source = FIRST.format(imports=imports, body=TORCH_BODY.replace("torch.compile(f)", "f") if xp.name == "torch"
                                  else TORCH_BODY)

        def measure():
            seconds = []
            for _ in range(3):
                with tempfile.TemporaryDirectory(prefix="perf-store-", ignore_cleanup_errors=True) as folder:
                    for _ in range(2 if full else 1):
                        printed = launch(source, folder, TORCHINDUCTOR_CACHE_DIR=folder)
                    seconds.append(float(printed))
            return min(seconds)

        return measure

    return build


GROUPS = (
    Group("compiled", "what do compiled functions cost, value and gradients?", (
        Case("Rosenbrock, 2 variables", rosenbrock_small, 0.35, "jax", also=((0.6, "pytensor"),)),
        Case("Rosenbrock, 10^6 variables", both_ways(rosenbrock_large, (10**6,)), 0.7, "jax", also=((0.1, "torch"),)),
        Case("12 pointwise operators, 10^6", both_ways(chain, (10**6,)), 0.3, "torch", also=((1.0, "inductor"), (1.0, "jax"))),
        Case("softmax 256 x 1000", both_ways(softmax, (256, 1000)), 1.0, "best"),
        Case("logsumexp 256 x 1000", both_ways(logsumexp, (256, 1000)), 1.0, "best"),
        Case("layer norm 1024 x 768", both_ways(layer_norm, (1024, 768), (768,), (768,)), 1.0, "best"),
        Case("GELU block 256-1024-256, 256 rows", both_ways(
            gelu_block, (256, 256), (1024, 256), (1024,), (256, 1024), (256,)), 1.0, "best"),
        Case("digits step, batch 64", digits_step, 0.5, "torch", compare=False, also=((1.0, "jax"),)),
    ), peers=PEERS),
    Group("first call", "how many seconds until a compiled function of 20 operators gives its first value and gradient?", (
        Case("empty store", first_call(False), 1.5, None, "value"),
        Case("second process", first_call(True), 0.05, None, "value"),
    ), peers=PEERS),
)
