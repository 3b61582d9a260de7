"""The 35 test problems of J. J. More, B. S. Garbow and K. E. Hillstrom, ACM Trans. Math. Software 7 (1981) 17-41.

Each is a vector of residuals written with the engine's operators, its standard start, and the sums of squares at its known minima.
Numbers, names, starts and minima are the paper's (section 3); (11) has its known misprint corrected. No tests live here: the
tests of `least_squares`, `root` and `minimize` import `PROBLEMS`.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import engine as torch
from engine import Tensor


@dataclasses.dataclass(frozen=True)
class Problem:
    """Residuals of `n` unknowns and `m` equations. `minima`: known local minima of the sum of squares, the best first."""

    number: int
    name: str
    n: int
    m: int
    residuals: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    minima: tuple[float, ...] = (0.0,)

    def x0(self, scale: float = 1.0) -> Tensor:
        """The standard start times a number (the paper uses 1, 10 and 100), float64."""
        return numbers(self.start) * scale

    def objective(self, x: Tensor) -> Tensor:
        """The sum of the squares of the residuals."""
        return (self.residuals(x) ** 2).sum()


def numbers(values) -> Tensor:
    """A vector of float64."""
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def count(n: int, first: int = 1) -> Tensor:
    """first, first + 1, ... : n of them."""
    return numbers(range(first, first + n))


PROBLEMS: list[Problem] = []


def problem(number: int, name: str, m: int, start, *minima: float) -> Callable:
    """Add a function of a vector to the list, as it stands in the paper."""
    def add(residuals: Callable) -> Callable:
        PROBLEMS.append(Problem(number, name, len(start), m, residuals, tuple(map(float, start)), minima or (0.0,)))
        return residuals
    return add


# --- two unknowns -------------------------------------------------------------------------------------------------------

@problem(1, "Rosenbrock", 2, (-1.2, 1))
def rosenbrock(x):
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@problem(2, "Freudenstein and Roth", 2, (0.5, -2), 0.0, 48.98425367924)
def freudenstein_roth(x):
    return torch.stack([-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]])


@problem(3, "Powell badly scaled", 2, (0, 1))
def powell_badly_scaled(x):
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


@problem(4, "Brown badly scaled", 3, (1, 1))
def brown_badly_scaled(x):
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


@problem(5, "Beale", 3, (1, 1))
def beale(x):
    return torch.stack([1.5 - x[0] * (1 - x[1]), 2.25 - x[0] * (1 - x[1] ** 2), 2.625 - x[0] * (1 - x[1] ** 3)])


@problem(6, "Jennrich and Sampson", 10, (0.3, 0.4), 124.3621823556)
def jennrich_sampson(x):
    i = count(10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


# --- three unknowns -----------------------------------------------------------------------------------------------------

@problem(7, "Helical valley", 3, (-1, 0, 0))
def helical_valley(x):
    turn = torch.atan(x[1] / x[0]) / (2 * math.pi) + torch.where(x[0] > 0, 0.0, 0.5)
    return torch.stack([10 * (x[2] - 10 * turn), 10 * (torch.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


@problem(8, "Bard", 15, (1, 1, 1), 8.214877306579e-3, 17.42869333333)
def bard(x):
    u = count(15)
    v = 16 - u
    return numbers(BARD) - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


GAUSSIAN = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989, 0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009)


@problem(9, "Gaussian", 15, (0.4, 1, 0), 1.127932769619e-8)
def gaussian(x):
    t = (8 - count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - numbers(GAUSSIAN)


MEYER = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)


@problem(10, "Meyer", 16, (0.02, 4000, 250), 87.94585517018)
def meyer(x):
    t = 45 + 5 * count(16)
    return x[0] * torch.exp(x[1] / (t + x[2])) - numbers(MEYER)


@problem(11, "Gulf research and development", 99, (5, 2.5, 0.15), 0.0)
def gulf(x):
    t = count(99) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-torch.abs(y - x[1]) ** x[2] / x[0]) - t


@problem(12, "Box three-dimensional", 10, (0, 10, 20))
def box(x):
    t = 0.1 * count(10)
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


# --- four unknowns and more ---------------------------------------------------------------------------------------------

@problem(13, "Powell singular", 4, (3, -1, 0, 1))
def powell_singular(x):
    return torch.stack([x[0] + 10 * x[1], math.sqrt(5) * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, math.sqrt(10) * (x[0] - x[3]) ** 2])


@problem(14, "Wood", 6, (-3, -1, -3, -1))
def wood(x):
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0], math.sqrt(90) * (x[3] - x[2] ** 2), 1 - x[2],
                        math.sqrt(10) * (x[1] + x[3] - 2), (x[1] - x[3]) / math.sqrt(10)])


KOWALIK_Y = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
KOWALIK_U = (4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


@problem(15, "Kowalik and Osborne", 11, (0.25, 0.39, 0.415, 0.39), 3.075056038492e-4, 1.027346e-3)
def kowalik_osborne(x):
    u = numbers(KOWALIK_U)
    return numbers(KOWALIK_Y) - x[0] * (u ** 2 + u * x[1]) / (u ** 2 + u * x[2] + x[3])


@problem(16, "Brown and Dennis", 20, (25, 5, -5, -1), 85822.20162636)
def brown_dennis(x):
    t = count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


OSBORNE_1 = (0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603, 0.580,
             0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406)


@problem(17, "Osborne 1", 33, (0.5, 1.5, -1, 0.01, 0.02), 5.464894697483e-5)
def osborne_1(x):
    t = 10 * count(33, 0)
    return numbers(OSBORNE_1) - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


@problem(18, "Biggs EXP6", 13, (1, 2, 1, 1, 1, 1), 0.0, 5.655649925e-3)
def biggs(x):
    t = 0.1 * count(13)
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


OSBORNE_2 = (1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606, 0.602,
             0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375,
             0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591,
             0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054)


@problem(19, "Osborne 2", 65, (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), 4.013773629355e-2, 1.789813)
def osborne_2(x):
    t = count(65, 0) / 10
    peaks = torch.exp(-(t.unsqueeze(1) - x[8:11]) ** 2 * x[5:8]) @ x[1:4]
    return numbers(OSBORNE_2) - (x[0] * torch.exp(-t * x[4]) + peaks)


@problem(20, "Watson", 31, (0,) * 6, 2.287670053552e-3)
def watson(x):
    n = x.shape[0]
    t = (count(29) / 29).unsqueeze(1)
    j = count(n - 1)
    slope = t ** (j - 1) * j @ x[1:]
    value = x[0] + t ** j @ x[1:]
    return torch.cat([slope - value ** 2 - 1, torch.stack([x[0], x[1] - x[0] ** 2 - 1])])


# --- any number of unknowns ---------------------------------------------------------------------------------------------

@problem(21, "Extended Rosenbrock", 10, (-1.2, 1) * 5)
def extended_rosenbrock(x):
    odd, even = x[0::2], x[1::2]
    return torch.stack([10 * (even - odd ** 2), 1 - odd], 1).reshape(-1)


@problem(22, "Extended Powell singular", 12, (3, -1, 0, 1) * 3)
def extended_powell_singular(x):
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return torch.stack([a + 10 * b, math.sqrt(5) * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2], 1).reshape(-1)


@problem(23, "Penalty I", 5, (1, 2, 3, 4), 2.249977500899e-5)
def penalty_1(x):
    return torch.cat([math.sqrt(1e-5) * (x - 1), ((x ** 2).sum() - 0.25).reshape(1)])


@problem(24, "Penalty II", 8, (0.5,) * 4, 9.376293007355e-6)
def penalty_2(x):
    n, a = x.shape[0], math.sqrt(1e-5)
    i = count(n - 1, 2)
    e = torch.exp(x / 10)
    y = torch.exp(i / 10) + torch.exp((i - 1) / 10)
    return torch.cat([x[:1] - 0.2, a * (e[1:] + e[:-1] - y), a * (e[1:] - math.exp(-0.1)),
                      (((n - count(n) + 1) * x ** 2).sum() - 1).reshape(1)])


@problem(25, "Variably dimensioned", 12, [1 - j / 10 for j in range(1, 11)])
def variably_dimensioned(x):
    s = (count(x.shape[0]) * (x - 1)).sum().reshape(1)
    return torch.cat([x - 1, s, s ** 2])


@problem(26, "Trigonometric", 10, (0.1,) * 10, 0.0, 2.795056121876e-5)
def trigonometric(x):
    n = x.shape[0]
    c = torch.cos(x)
    return n - c.sum() + count(n) * (1 - c) - torch.sin(x)


@problem(27, "Brown almost-linear", 10, (0.5,) * 10, 0.0, 1.0)
def brown_almost_linear(x):
    n = x.shape[0]
    return torch.cat([x[:-1] + x.sum() - (n + 1), (x.prod() - 1).reshape(1)])


def _mesh(n: int) -> list[float]:
    return [j / (n + 1) * (j / (n + 1) - 1) for j in range(1, n + 1)]


def _neighbours(x):
    """x one place to the left and one to the right, with zeros beyond the ends."""
    zero = x.new_zeros(1)
    return torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])


@problem(28, "Discrete boundary value", 10, _mesh(10))
def discrete_boundary_value(x):
    n = x.shape[0]
    h = 1 / (n + 1)
    before, after = _neighbours(x)
    return 2 * x - before - after + h ** 2 * (x + h * count(n) + 1) ** 3 / 2


@problem(29, "Discrete integral equation", 10, _mesh(10))
def discrete_integral_equation(x):
    n = x.shape[0]
    h = 1 / (n + 1)
    t = h * count(n)
    cube = (x + t + 1) ** 3
    upto, beyond = torch.cumsum(t * cube, 0), (1 - t) * cube
    return x + h * ((1 - t) * upto + t * (beyond.sum() - torch.cumsum(beyond, 0))) / 2


@problem(30, "Broyden tridiagonal", 10, (-1,) * 10)
def broyden_tridiagonal(x):
    before, after = _neighbours(x)
    return (3 - 2 * x) * x - before - 2 * after + 1


@problem(31, "Broyden banded", 10, (-1,) * 10)
def broyden_banded(x):
    n = x.shape[0]
    band = torch.tensor([[1.0 if j != i and i - 5 <= j <= i + 1 else 0.0 for j in range(n)] for i in range(n)], dtype=torch.float64)
    return x * (2 + 5 * x ** 2) + 1 - band @ (x * (1 + x))


@problem(32, "Linear, full rank", 20, (1,) * 10, 10.0)
def linear_full_rank(x):
    n, m = x.shape[0], 20
    return torch.cat([x, x.new_zeros(m - n)]) - 2 * x.sum() / m - 1


@problem(33, "Linear, rank 1", 20, (1,) * 10, 20 * 19 / (2 * 41))
def linear_rank_1(x):
    return count(20) * (count(x.shape[0]) * x).sum() - 1


@problem(34, "Linear, rank 1 with zero columns and rows", 20, (1,) * 10, (20 ** 2 + 3 * 20 - 6) / (2 * 37))
def linear_rank_1_zeros(x):
    n, m = x.shape[0], 20
    i, j = numbers([0, *range(1, m - 1), 0]), numbers([0, *range(2, n), 0])
    return i * (j * x).sum() - 1


@problem(35, "Chebyquad", 8, [j / 9 for j in range(1, 9)], 3.516873725677e-3)
def chebyquad(x):
    n = x.shape[0]
    u = 2 * x - 1
    before, now, means = torch.ones_like(x), u, []
    for i in range(1, n + 1):
        means.append(now.mean() + (1 / (i * i - 1) if i % 2 == 0 else 0.0))
        before, now = now, 2 * u * now - before
    return torch.stack(means)


ROOTS = [p for p in PROBLEMS if p.m == p.n and 0.0 in p.minima]          # systems of equations with a solution
