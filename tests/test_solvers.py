"""The parts of the native solvers, each alone: line searches, the two-loop recursion, long vectors, stepping by hand."""
import itertools

import numpy as np
import pytest

from kernels import solvers
from kernels.solvers import lbfgs, line_search, machine, vectors

W = machine.WORDS
MU, SIGMA = 1e-3, 0.1


# --- line searches: the test functions of More and Thuente (1994), section 5 -------------------------------------------------

def phi_1(a, beta=2.0):
    return -a / (a * a + beta), (a * a - beta) / (a * a + beta) ** 2


def phi_2(a, beta=0.004):
    return (a + beta) ** 5 - 2 * (a + beta) ** 4, 5 * (a + beta) ** 4 - 8 * (a + beta) ** 3


def phi_3(a, beta=0.01, waves=39):
    if a <= 1 - beta:
        f, g = 1 - a, -1.0
    elif a >= 1 + beta:
        f, g = a - 1, 1.0
    else:
        f, g = (a - 1) ** 2 / (2 * beta) + beta / 2, (a - 1) / beta
    c = 2 * (1 - beta) / (waves * np.pi)
    return f + c * np.sin(waves * np.pi / 2 * a), g + (1 - beta) * np.cos(waves * np.pi / 2 * a)


def phi_yanai(b1, b2):
    def phi(a):
        g1, g2 = np.sqrt(1 + b1 ** 2) - b1, np.sqrt(1 + b2 ** 2) - b2
        r1, r2 = np.sqrt((1 - a) ** 2 + b2 ** 2), np.sqrt(a ** 2 + b1 ** 2)
        return g1 * r1 + g2 * r2, -g1 * (1 - a) / r1 + g2 * a / r2
    return phi


FUNCTIONS = [phi_1, phi_2, phi_3, phi_yanai(1e-3, 1e-3), phi_yanai(1e-2, 1e-3), phi_yanai(1e-3, 1e-2)]


def search(name, phi, step, about, tolerance=0.0, most=1e20):
    """(step found, code, evaluations) of a line search."""
    run, words, given = line_search.alone(name), np.zeros(32, np.int64), np.zeros(8)
    given[:5] = *phi(0.0), step, most, tolerance
    code = run(words, given)
    for count in range(1, 100):
        a = words.view(np.float64)[1]
        given[:5] = *phi(a), *about
        code = run(words, given)
        if code:
            return a, code, count
    raise AssertionError("the line search does not end")


@pytest.mark.parametrize("step", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("k", range(6))
def test_more_thuente_finds_strong_wolfe_steps(k, step):
    phi = FUNCTIONS[k]
    a, code, count = search("more_thuente", phi, step, (MU, SIGMA, 1e-15))
    (f0, g0), (f, g) = phi(0.0), phi(a)
    assert code == 1 and count <= 25
    assert f <= f0 + MU * a * g0 and abs(g) <= SIGMA * abs(g0)


@pytest.mark.parametrize("step", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("k", range(6))
def test_hager_zhang_finds_wolfe_steps(k, step):
    phi = FUNCTIONS[k]
    f0, g0 = phi(0.0)
    tolerance = 1e-6 * abs(f0)
    a, code, count = search("hager_zhang", phi, step, (0.1, 0.9, 0.0), tolerance)
    f, g = phi(a)
    assert code == 1 and count <= 25
    assert g >= 0.9 * g0
    assert f <= f0 + 0.1 * a * g0 or (f <= f0 + tolerance and g <= -0.8 * g0)


@pytest.mark.parametrize("name, about, codes", [("more_thuente", (MU, SIGMA, 1e-15), (4, 6)),
                                                ("hager_zhang", (0.1, 0.9, 0.0), (3, 4))])
def test_line_searches_tell_what_has_no_minimum(name, about, codes):
    assert search(name, lambda a: (-a, -1.0), 1.0, about)[1] == codes[0]
    assert search(name, lambda a: (-np.inf if a > 100 else -a, -1.0), 1.0, about)[1] == codes[1]


@pytest.mark.parametrize("name, about", [("more_thuente", (1e-4, 0.9, 1e-15)), ("hager_zhang", (0.1, 0.9, 0.0))])
def test_line_searches_step_back_from_undefined_values(name, about):
    def phi(a):
        return (-np.log(1 - a) - 3 * a, 1 / (1 - a) - 3) if a < 1 else (np.nan, np.nan)
    a, code, _ = search(name, phi, 5.0, about)
    assert code == 1 and 0 < a < 1 and phi(a)[0] < 0


# --- two-loop recursion against dense BFGS -----------------------------------------------------------------------------------

@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("n", [3, 40])
def test_two_loop_is_dense_bfgs(rows, n):
    rng = np.random.default_rng(rows * 100 + n)
    hessian = np.diag(rng.uniform(0.5, 4, n))
    s = rng.normal(size=(rows, n))
    y, g, gamma = s @ hessian, rng.normal(size=n), 0.7
    h = gamma * np.eye(n)
    for a, b in zip(s, y, strict=True):             # equation 7.16 of Nocedal and Wright
        rho = 1 / (a @ b)
        v = np.eye(n) - rho * np.outer(b, a)
        h = v.T @ h @ v + rho * np.outer(a, a)
    found = lbfgs.two_loop_alone("float64")(np.zeros(64 + 4 * rows, np.int64), gamma, s, y, g)
    np.testing.assert_allclose(found, -h @ g, rtol=1e-12, atol=1e-12)


# --- states, stepped by hand ---------------------------------------------------------------------------------------------------

class Problem:
    """A solver driven from Python over a function of NumPy arrays."""

    def __init__(self, name, fun, x0, options=None, dtype="float64"):
        self.solver, self.fun, self.dtype, self.n = solvers.solver(name), fun, np.dtype(dtype), len(x0)
        options = options or {}
        self.words = np.zeros(self.solver.words_of_state(self.n, 0, dtype, options), np.int64)
        self.words[:machine.HEADER] = self.solver.header(self.n, 0, dtype, options)
        if self.n >= vectors.LONG:
            self.table = vectors.table(dtype)
            self.words[W["LARGE"]] = self.table.ctypes.data
        self.at(self.words.ctypes.data + 8 * machine.HEADER)[:] = x0
        self.run, self.control = self.solver.run(dtype), np.array([1000, 1])

    def at(self, address, count=None):
        """A vector of the state."""
        view = self.words.view(self.dtype)
        start = (int(address) - self.words.ctypes.data) // self.dtype.itemsize
        return view[start:start + (count or self.n)]

    def step(self):
        """Go on to the next request, answered here; gives it."""
        request = self.run(self.words, self.control)
        if request in (machine.VALUE, machine.VALUE_AND_GRAD):
            value, gradient = self.fun(self.at(self.words[W["X"]]).copy())
            self.at(self.words[W["F"]], 1)[0] = value
            if request == machine.VALUE_AND_GRAD:
                self.at(self.words[W["G"]])[:] = gradient
        return request

    def solve(self):
        """(status, x, f) at the end, and the values of all iterations."""
        values = []
        while (request := self.step()) != machine.DONE:
            if request == machine.ITERATION:
                values.append(self.number("NOW_F"))
        return self.words[W["STATUS"]], self.at(self.words[W["RESULT_X"]]), self.number("NOW_F"), values

    def number(self, name):
        return self.words.view(np.float64)[W[name]]


def quadratic(weights):
    return lambda x: (0.5 * (weights * x * x).sum(), weights * x)


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "cg", "gd"])
def test_a_solver_can_be_stepped_by_hand(name):
    problem = Problem(name, quadratic(np.array([1.0, 5.0, 20.0])), [3.0, -2.0, 1.0], {"ftol": 0.0})
    status, x, f, values = problem.solve()
    assert status == machine.STATUSES["SMALL_GRADIENT"] and f < 1e-9
    assert problem.words[W["NIT"]] == len(values) and all(b < a for a, b in itertools.pairwise(values))
    assert problem.step() == machine.DONE               # nothing happens after the end
    np.testing.assert_allclose(x, 0, atol=1e-5)


@pytest.mark.parametrize("n", [255, 256, 5000])
def test_long_vectors_take_the_same_way_as_short_ones(n):
    weights = np.linspace(1, 30, n)
    problem = Problem("lbfgs", quadratic(weights), np.cos(np.arange(n)), {"gtol": 1e-8, "ftol": 0.0})
    status, x, _, values = problem.solve()
    assert status == machine.STATUSES["SMALL_GRADIENT"] and abs(weights * x).max() <= 1e-8
    assert len(values) < 80


def test_lbfgs_in_two_dimensions_with_full_history_is_bfgs():
    def rosenbrock(x):
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return a * a + 100 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])
    one = Problem("bfgs", rosenbrock, [-1.2, 1.0], {"maxiter": 8})
    values = one.solve()[3]
    assert values[0] == pytest.approx(Problem("lbfgs", rosenbrock, [-1.2, 1.0], {"maxiter": 8}).solve()[3][0], rel=1e-12)
    inverse = one.at(one.words[solvers.solver("bfgs").places()["H"]], 4).reshape(2, 2)
    assert inverse == pytest.approx(inverse.T) and (np.linalg.eigvalsh(inverse) > 0).all()


def test_solvers_name_their_sources_and_options():
    for name in solvers.names():
        solver = solvers.solver(name)
        assert solver.cite and solver.places()["SLOTS"] == 8
        assert len(set(solver.places().values())) == len(solver.places())
        assert solver.defaults("float32").keys() == solver.defaults("float64").keys()


def test_an_unknown_solver():
    with pytest.raises(KeyError):
        solvers.solver("nonsense")
