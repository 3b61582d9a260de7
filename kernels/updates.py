"""Update rules of optimizers as formulas: one new value of the parameter, and of each state, from the old ones.

A formula is written in the book's operators, like a derivative. Run over symbols it becomes one kernel that updates all
elements of a parameter in a single pass (`kernels.cpu.updates`); run over tensors it is the differentiable step. What the
numbers are (step sizes, corrections of bias) is computed by the optimizers in `engine.optim`, the only callers.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

from . import ops  # noqa: F401  (fills the book)
from .book import BOOK
from .symbol import Symbol

sqrt, absolute, signum, maximum, minimum, where = (BOOK[n] for n in ("sqrt", "abs", "sign", "maximum", "minimum", "where"))


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """`formula(p, g, states..., *, numbers...)` returns the new p and the new states; `states` are their names in state dicts."""
    name: str
    formula: Callable
    states: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the formula's numbers, which are the same for all elements."""
        code = self.formula.__code__
        return code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]


def update(*states: str) -> Callable[[Callable], Update]:
    """Decorator: a formula becomes an update rule of its own name."""
    return lambda formula: Update(formula.__name__, formula, states)


def when(flag, yes, no):
    """`yes` where the number `flag` is not 0. A kernel chooses as it runs, so that options need no kernel of their own."""
    if isinstance(flag, Symbol):
        return where(flag != 0, yes, no)
    return yes if flag else no


def signed(p, g, sign, decay):
    """The gradient with its sign (-1 to maximise) and the derivative of the penalty decay / 2 * p^2."""
    g = g * sign
    return when(decay, g + decay * p, g)


@update()
def sgd(p, g, *, sign, decay, lr):
    """Gradient descent."""
    return (p - lr * signed(p, g, sign, decay),)


@update("momentum_buffer")
def sgd_momentum(p, g, v, *, sign, decay, keep, take, nesterov, lr):
    """v <- keep * v + take * g; `nesterov` is the momentum with which v is applied once more, 0 for none.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), with lr outside of v.
    """
    g = signed(p, g, sign, decay)
    v = keep * v + take * g
    return p - lr * when(nesterov, g + nesterov * v, v), v


@update("sum")
def adagrad(p, g, s, *, sign, decay, lr, eps):
    """Source: Duchi, Hazan and Singer, Adaptive subgradient methods (2011)."""
    g = signed(p, g, sign, decay)
    s = s + g * g
    return p - lr * g / (sqrt(s) + eps), s


def _root_mean_square(s, g, alpha, beta):
    return alpha * s + beta * (g * g)


@update("square_avg")
def rmsprop(p, g, s, *, sign, decay, lr, alpha, beta, eps):
    """beta = 1 - alpha. Source: Hinton, Neural networks for machine learning, lecture 6e (2012)."""
    g = signed(p, g, sign, decay)
    s = _root_mean_square(s, g, alpha, beta)
    return p - lr * g / (sqrt(s) + eps), s


@update("square_avg", "momentum_buffer")
def rmsprop_momentum(p, g, s, v, *, sign, decay, lr, alpha, beta, eps, momentum):
    """As rmsprop, with momentum on the scaled gradient."""
    g = signed(p, g, sign, decay)
    s = _root_mean_square(s, g, alpha, beta)
    v = momentum * v + g / (sqrt(s) + eps)
    return p - lr * v, s, v


@update("square_avg", "grad_avg")
def rmsprop_centered(p, g, s, a, *, sign, decay, lr, alpha, beta, eps):
    """As rmsprop, scaled by the estimated variance. Source: Graves, Generating sequences with RNNs (2013), equations 38 to 45."""
    g = signed(p, g, sign, decay)
    s, a = _root_mean_square(s, g, alpha, beta), a + beta * (g - a)
    return p - lr * g / (sqrt(s - a * a) + eps), s, a


@update("square_avg", "momentum_buffer", "grad_avg")
def rmsprop_centered_momentum(p, g, s, v, a, *, sign, decay, lr, alpha, beta, eps, momentum):
    """As rmsprop_centered, with momentum on the scaled gradient."""
    g = signed(p, g, sign, decay)
    s, a = _root_mean_square(s, g, alpha, beta), a + beta * (g - a)
    v = momentum * v + g / (sqrt(s - a * a) + eps)
    return p - lr * v, s, v, a


@update("square_avg", "acc_delta")
def adadelta(p, g, s, d, *, sign, decay, lr, rho, rest, eps):
    """rest = 1 - rho. Source: Zeiler, ADADELTA (2012), algorithm 1."""
    g = signed(p, g, sign, decay)
    s = _root_mean_square(s, g, rho, rest)
    delta = sqrt(d + eps) / sqrt(s + eps) * g
    return p - lr * delta, s, _root_mean_square(d, delta, rho, rest)


def _moments(g, m, v, a, b2, b):
    """Running means of g and g^2: a = 1 - beta1, b = 1 - beta2 = 1 - b2."""
    return m + a * (g - m), b2 * v + b * (g * g)


@update("exp_avg", "exp_avg_sq")
def adam(p, g, m, v, *, sign, decay, shrink, step, a, b2, b, root, eps):
    """step = lr / (1 - beta1^t), root = sqrt(1 - beta2^t), shrink = 1 - lr * decoupled weight decay.

    Source: Kingma and Ba, Adam (2015), algorithm 1; Loshchilov and Hutter, Decoupled weight decay regularization (2019).
    """
    g = signed(p, g, sign, decay)
    m, v = _moments(g, m, v, a, b2, b)
    return p * shrink - step * m / (sqrt(v) / root + eps), m, v


@update("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
def adam_amsgrad(p, g, m, v, w, *, sign, decay, shrink, step, a, b2, b, root, eps):
    """As adam, scaled by the largest v so far. Source: Reddi, Kale and Kumar, On the convergence of Adam and beyond (2018)."""
    g = signed(p, g, sign, decay)
    m, v = _moments(g, m, v, a, b2, b)
    w = maximum(w, v)
    return p * shrink - step * m / (sqrt(w) / root + eps), m, v, w


@update("exp_avg", "exp_inf")
def adamax(p, g, m, u, *, sign, decay, step, a, b2, eps):
    """step = lr / (1 - beta1^t). Source: Kingma and Ba, Adam (2015), algorithm 2."""
    g = signed(p, g, sign, decay)
    m, u = m + a * (g - m), maximum(b2 * u, absolute(g) + eps)
    return p - step * m / u, m, u


@update("exp_avg", "exp_avg_sq")
def nadam(p, g, m, v, *, sign, decay, shrink, of_g, of_m, a, b2, b, correction, eps):
    """of_g and of_m are the steps along gradient and mean, correction = 1 - beta2^t.

    Source: Dozat, Incorporating Nesterov momentum into Adam (2016).
    """
    p = p * shrink
    g = signed(p, g, sign, decay)
    m, v = _moments(g, m, v, a, b2, b)
    return p - (of_g * g + of_m * m) / (sqrt(v / correction) + eps), m, v


@update("exp_avg", "exp_avg_sq")
def radam(p, g, m, v, *, sign, decay, shrink, step, scale, a, b2, b, eps):
    """`scale` rectifies the variance of the step (0: the variance is not tractable yet, so the step is not scaled).

    Source: Liu et al., On the variance of the adaptive learning rate and beyond (2020), algorithm 2.
    """
    p = p * shrink
    g = signed(p, g, sign, decay)
    m, v = _moments(g, m, v, a, b2, b)
    return p - step * m * when(scale, scale / (sqrt(v) + eps), 1.0), m, v


@update("ax")
def asgd(p, g, x, *, sign, decay, shrink, eta, mu):
    """x is the average of the points. Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992)."""
    g = signed(p, g, sign, decay)
    p = p * shrink - eta * g
    return p, when(mu - 1.0, x + mu * (p - x), p)


@update("prev", "step_size")
def rprop(p, g, old, d, *, sign, minus, plus, low, high):
    """Step sizes grow where the gradient keeps its sign and shrink, without a step, where it changed.

    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the RPROP algorithm (1993).
    """
    g = g * sign
    product = g * old
    turned = product < 0.0
    d = minimum(maximum(where(product > 0.0, d * plus, where(turned, d * minus, d)), low), high)
    g = where(turned, 0.0, g)
    return p - signum(g) * d, g, d
