"""Question: what does minimising a function cost, from Python, with everything compiled before?

The function is Rosenbrock's, in float64, from (-1, 1, -1, 1, ...), until no element of the gradient is larger than 1e-8 (in 10^6
variables: 30 iterations). SciPy's L-BFGS-B gets the gradient from a NumPy function in the column "scipy", from a jitted JAX
function in the column "jax"; with many starts "jax" is JAX's own jitted BFGS, vmapped. PyTorch has `optim.LBFGS`.
"""
import numpy as np

from perf.harness import Case, Group

PEERS = ("scipy", "torch", "jax", "optimistix")


def two(x):
    """Rosenbrock's function of two variables."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def many(x):
    """The same chained over all variables."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def by_hand(x):
    """Value and gradient in NumPy."""
    a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
    g = np.zeros_like(x)
    g[:-1] = -2 * a - 400 * x[:-1] * b
    g[1:] += 200 * b
    return (a * a).sum() + 100 * (b * b).sum(), g


def one_start(n, iterations=15000):
    """A case that minimises from one start in n dimensions; the sample's result is the value."""
    def build(xp):
        start, function = np.resize([-1.0, 1.0], n), two if n == 2 else many
        options = {"gtol": 1e-8, "ftol": 0.0, "maxiter": iterations}
        if xp.name == "engine":
            from engine.optimize import minimize
            x0 = xp.array(start)
            return lambda: minimize(function, x0, options=options).fun
        if xp.name == "torch":
            return with_torch(xp, function, start, iterations) if n <= 100 else None
        if xp.name == "optimistix":
            return with_optimistix(xp, function, start) if n <= 100 else None
        from scipy.optimize import minimize
        pair = by_hand
        if xp.name == "jax":
            compiled = xp.jit(xp.value_and_grad(function))

            def pair(x):
                value, gradient = compiled(x)
                return float(value), np.asarray(gradient)
        return lambda: minimize(pair, start, jac=True, method="L-BFGS-B", options={**options, "maxfun": 10**6}).fun
    return build


def with_torch(xp, function, start, iterations):
    """PyTorch's L-BFGS with its strong Wolfe line search."""
    def run():
        x = xp.array(start).requires_grad_()
        optimizer = xp.optim.LBFGS([x], max_iter=iterations, tolerance_grad=1e-8, tolerance_change=0, history_size=10,
                                   line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            value = function(x)
            value.backward()
            return value
        optimizer.step(closure)
        return function(x).item()
    return run


def with_optimistix(xp, function, start):
    """Optimistix's L-BFGS inside one jitted function."""
    solver = xp.LBFGS(rtol=1e-8, atol=1e-8)

    @xp.jit
    def solve(x):
        y = xp.minimise(lambda y, _: function(y), solver, x, max_steps=2000, throw=False).value
        return function(y)
    x0 = xp.array(start)
    return lambda: float(solve(x0))


def many_starts(count):
    """A case that minimises the function of two variables from many random starts; the sample's result is the median value."""
    def build(xp):
        starts = np.random.default_rng(0).normal(size=(count, 2))
        if xp.name == "engine":
            from engine.optimize import minimize
            x0 = xp.array(starts)
            return lambda: float(np.median(minimize(two, x0, tol=1e-8, batch_dims=1).fun.numpy()))
        if xp.name == "jax":
            import jax
            from jax.scipy.optimize import minimize
            solve = jax.jit(jax.vmap(lambda x: minimize(two, x, method="BFGS", tol=1e-8).fun))
            x0 = xp.array(starts)
            return lambda: float(np.median(np.asarray(solve(x0))))
        return None
    return build


GROUPS = (
    Group("minimise", "what does minimising Rosenbrock's function cost, everything compiled before?", (
        Case("2 variables", one_start(2), 0.4, "optimistix", compare=False, also=((0.03, "scipy"),)),
        Case("2 variables, 10^4 starts", many_starts(10**4), 0.5, "jax", compare=False),
        Case("100 variables", one_start(100), 0.3, "jax", compare=False),
        Case("10^6 variables, 30 iterations", one_start(10**6, 30), 0.3, "jax", compare=False),
    ), peers=PEERS),
)
