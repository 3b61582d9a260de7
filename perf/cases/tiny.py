"""Question: what does one call cost when there is nothing to compute?

Two-element tensors, without and with recording for backward, and a whole descent step on Rosenbrock's function in two
dimensions, where such calls are all there is. NumPy and JAX record nothing while they run, so they have no column where
recording is asked; JAX's step differentiates by `jax.grad`, NumPy's uses a gradient written by hand.
"""
import numpy as np

from perf.harness import Case, Group

OPERATORS = {
    "a + b": lambda a, b: lambda: a + b,
    "a * 2": lambda a, b: lambda: a * 2,
    "a.sum()": lambda a, b: lambda: a.sum(),
    "a[0]": lambda a, b: lambda: a[0],
    "a ** 2": lambda a, b: lambda: a**2,
}


def tiny(make, recorded):
    """A case from `make(a, b)`, which returns the thunk for two tensors of two elements."""

    def build(xp):
        if recorded and not xp.records:
            return None
        data = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
        return make(*(xp.array(x, requires_grad=True) if recorded else xp.array(x) for x in data))

    return build


def rosenbrock(x, a=1, b=5):
    """Rosenbrock's function of a vector of two, as in chapter 5 of the book."""
    return (a - x[0]) ** 2 + b * (x[1] - x[0] ** 2) ** 2


def rosenbrock_gradient(x, a=1, b=5):
    """Its gradient by hand, for NumPy."""
    residual = x[1] - x[0] ** 2
    return np.array([-2 * (a - x[0]) - 4 * b * x[0] * residual, 2 * b * residual], x.dtype)


def descent_step(xp):
    """Forward, backward, update under no_grad, gradient set to zero; the step size is chapter 5's 0.01."""
    start = np.array([-1, 1], np.float32)
    if xp.records:
        x = xp.array(start, requires_grad=True)

        def step():
            value = rosenbrock(x)
            value.backward()
            with xp.no_grad():
                x.sub_(0.01 * x.grad)
                x.grad.zero_()

        return step
    gradient = rosenbrock_gradient if xp.name == "numpy" else xp.grad(rosenbrock)
    x = xp.array(start)

    def step():
        nonlocal x
        x = x - 0.01 * gradient(x)
        return x

    return step


GROUPS = (
    Group("tiny", "what does a call cost on 2 float32 elements?",
          tuple(Case(name + (" recorded" if recorded else ""), tiny(make, recorded), 1.0)
                for recorded in (False, True) for name, make in OPERATORS.items()), median_bar=0.7),
    Group("step", "what does one step of descent on Rosenbrock's function cost (forward, backward, update, zero)?",
          (Case("Rosenbrock 2-d step", descent_step, 0.6, compare=False),)),
)
