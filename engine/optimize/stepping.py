"""`Stepper`: a native solver by its name, driven by the user: stepped by hand, or called from the user's own compiled code.

The user evaluates the function; the solver (`kernels.solvers`) says at which point, and what of it. `minimize`, `least_squares` and
`root` do the same by themselves.
"""
from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels import solvers
from kernels.cpu.native import loop_of
from kernels.solvers import vectors
from kernels.solvers.machine import HEADER, JACOBIAN, REQUESTS, RESIDUALS, STATUSES, VALUE, VALUE_AND_GRAD, WORDS, Solver

from .result import REASONS, successful

NAMES = {code: name.lower() for name, code in REQUESTS.items()}
FOREVER = 1 << 62


class Stepper:
    """A solver in the middle of its work on one problem.

        s = Stepper("lbfgs", [-1.2, 1.0])
        while (request := s.step()) != "done":
            if request == "value_and_grad":
                s.answer(f(s.x), gradient(s.x))

    `method`: one of `Stepper.methods()`, or a `kernels.solvers.Solver` of the user's; `options` are its own, see `minimize`.
    `bounds`: (lower, upper) of x's size, for those that take them. `residuals`: how many there are, for "levenberg-marquardt" and
    "hybrid". x0: numbers; float32 stays, the rest is float64. docs/solvers-of-your-own.md has examples.

    `step()` goes on and gives the next request; a request is answered by `answer` before the next step:

        "value"             f at x                          "hessian"       (n, n) at x
        "value_and_grad"    f, gradient (n) at x            "product"       the Hessian at x times p (n)
        "residuals"         (m) at x                        "jacobian"      residuals (m), Jacobian (m, n) at x
        "iteration"         nothing: an iteration is over   "done"          nothing: see `status`, `success`, `message`

    From compiled code (Numba's @njit): `loop(*call)` is one step, `loop` a foreign function, `call` four integers. The request is
    then `words[place["REQUEST"]]` as one of `requests`, and a vector begins in `numbers` at `(words[place["X"]] - address) //
    numbers.itemsize`; X, F, G, P and R are where points and answers lie. Keep the Stepper alive as long as these are used.

    Errors: KeyError for an unknown method; ValueError for unknown options, an answer of the wrong size, or none.
    """

    requests = dict(REQUESTS)
    statuses = dict(STATUSES)

    def __init__(self, method: str | Solver, x0: Any, *, options: Mapping[str, float] | None = None, bounds: Any = None,
                 residuals: int = 0):
        self.solver = solvers.solver(method) if isinstance(method, str) else method
        method, options = self.solver.name, dict(options or {})
        x0 = np.asarray(x0)
        x0 = x0 if x0.dtype == np.float32 else x0.astype(np.float64)
        if not x0.size:
            raise ValueError("Stepper: x0 has no elements")
        unknown = set(options) - set(self.solver.options)
        if unknown:
            raise ValueError(f"Stepper: {method} has no option {', '.join(sorted(unknown))}; it has "
                             f"{', '.join(self.solver.options)}")
        if (RESIDUALS in self.solver.requests) != (residuals > 0):
            raise ValueError(f"Stepper: {method} {'needs' if residuals <= 0 else 'has no'} residuals")
        self.n, self.m, self.dtype = x0.size, residuals, x0.dtype
        self.words = np.zeros(self.solver.words_of_state(self.n, self.m, self.dtype.name, options), np.int64)
        self.numbers = self.words.view(self.dtype)
        self.address = self.words.ctypes.data
        self.place = self.solver.places()
        self.words[:HEADER] = self.solver.header(self.n, self.m, self.dtype.name, options)
        if self.n >= vectors.LONG:
            self._large = vectors.table(self.dtype.name)
            self.words[WORDS["LARGE"]] = self._large.ctypes.data
        if bounds is None and method == "lbfgsb":          # which looks at them in any case
            bounds = -np.inf, np.inf
        if bounds is not None:
            if not self.solver.bounded:
                raise ValueError(f"Stepper: {method} cannot handle bounds")
            self._bounds = [np.array(np.broadcast_to(np.asarray(b, self.dtype), x0.shape)).reshape(-1) for b in bounds]
            self.words[WORDS["BOUNDS"]] = 1
            self.words[WORDS["LOWER"]], self.words[WORDS["UPPER"]] = (b.ctypes.data for b in self._bounds)
        first = 8 * HEADER // self.dtype.itemsize
        self.numbers[first:first + self.n] = x0.reshape(-1)
        self._run = self.solver.run(self.dtype.name)
        self._control, self._code = np.array([FOREVER, 1], np.int64), np.zeros((), np.int64)
        self._open = False

    @staticmethod
    def methods() -> list[str]:
        """The names of all solvers."""
        return solvers.names()

    # --- from compiled code ---------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Any:
        """The solver's step as a foreign function of four integers, which `call` gives."""
        address, _ = loop_of(self._run)
        return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(address)

    @property
    def call(self) -> tuple[int, int, int, int]:
        """The arguments of `loop`: NumPy's for a loop over one problem."""
        self._frame = np.array([self.address, self._control.ctypes.data, self._code.ctypes.data,
                                1, self.words.size, 2, 0, 0, 0, 8, 8], np.int64)
        start = self._frame.ctypes.data
        return start, start + 24, start + 48, loop_of(self._run)[1]

    # --- by hand -------------------------------------------------------------------------------------------------------------

    def step(self) -> str:
        """Go on to the next request. ValueError where the last one is not answered."""
        if self._open:
            raise ValueError(f"Stepper: the request {self.request!r} has not been answered")
        self._run(self.words, self._control, self._code)
        self._open = self.request not in ("done", "iteration")
        return self.request

    def answer(self, *results: Any) -> None:
        """What the last request asks for, numbers or arrays, in the order of the table above."""
        request = REQUESTS[self.request.upper()]
        n, m = self.n, self.m
        wanted = {VALUE: (("F", 1),), VALUE_AND_GRAD: (("F", 1), ("G", n)), RESIDUALS: (("R", m),),
                  JACOBIAN: (("R", m), ("G", m * n)), REQUESTS["HESSIAN"]: (("R", n * n),), REQUESTS["PRODUCT"]: (("R", n),)}
        places = wanted.get(request, ())
        if not self._open or len(results) != len(places):
            raise ValueError(f"Stepper: the request {self.request!r} takes {len(places) if self._open else 0} results, not "
                             f"{len(results)}")
        for (name, count), result in zip(places, results, strict=True):
            array = np.asarray(result)
            if array.size != count:
                raise ValueError(f"Stepper: a result for {self.request!r} has {array.size} elements, not {count}")
            self.vector(name, count)[:] = array.reshape(-1)
        self._open = False

    def vector(self, name: str, count: int) -> np.ndarray:
        """The elements whose address is in a word, in place."""
        first = (int(self.words[self.place[name]]) - self.address) // self.dtype.itemsize
        return self.numbers[first:first + count]

    @property
    def request(self) -> str:
        """The last request."""
        return NAMES[int(self.words[WORDS["REQUEST"]])] if self.words[WORDS["STAGE"]] else ""

    @property
    def done(self) -> bool:
        """Whether the solver has ended."""
        return self.request == "done"

    @property
    def x(self) -> np.ndarray:
        """The point of a request; after "iteration" and "done" the iterate. A copy."""
        return self.vector("X" if self._open else "NOW_X", self.n).copy()

    @property
    def p(self) -> np.ndarray:
        """The vector of a request for a product, a copy."""
        return self.vector("P", self.n).copy()

    @property
    def fun(self) -> float:
        """The value at the iterate (half the sum of squares of residuals, for "hybrid" their norm)."""
        return float(self.words.view(np.float64)[WORDS["NOW_F"]])

    @property
    def status(self) -> str:
        """Why the solver ended, one of `statuses`."""
        return next(k for k, v in STATUSES.items() if v == self.words[WORDS["STATUS"]])

    @property
    def success(self) -> bool:
        """Whether it ended well."""
        return successful(int(self.words[WORDS["STATUS"]]))

    @property
    def message(self) -> str:
        """The same in words."""
        return REASONS[int(self.words[WORDS["STATUS"]])][1]
