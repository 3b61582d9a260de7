"""What the solvers give back: a record with SciPy's names, and the table from a solver's code to status and message."""
from __future__ import annotations

from typing import Any

from kernels.solvers.machine import STATUSES, SUCCESSES

# code of kernels.solvers -> (status, message); status 0 is success, as in SciPy
REASONS: dict[int, tuple[int, str]] = {
    STATUSES["RUNNING"]: (9, "The solver has not ended."),
    STATUSES["SMALL_GRADIENT"]: (0, "Converged: the (projected) gradient is not larger than gtol."),
    STATUSES["SMALL_CHANGE"]: (0, "Converged: the value changes by no more than ftol allows."),
    STATUSES["SMALL_STEP"]: (0, "Converged: the step is not longer than xtol allows."),
    STATUSES["SMALL_VALUE"]: (0, "Converged: the value is small enough."),
    STATUSES["ITERATION_LIMIT"]: (1, "Stopped: the limit of iterations (maxiter) is reached."),
    STATUSES["EVALUATION_LIMIT"]: (2, "Stopped: the limit of evaluations (maxfun) is reached."),
    STATUSES["SEARCH_FAILED"]: (3, "Failed: the line search finds no lower value; the gradient may be wrong, the function not "
                                   "smooth, or the precision exhausted."),
    STATUSES["UNBOUNDED"]: (4, "Failed: the function seems to be unbounded from below."),
    STATUSES["NOT_A_NUMBER"]: (5, "Failed: the value or the gradient at the starting point, or at all points around the last one, "
                                  "is NaN or infinite."),
    STATUSES["STOPPED"]: (6, "Stopped: the callback asked for it."),
    STATUSES["NO_PROGRESS"]: (7, "Failed: no further progress; the precision may be exhausted."),
    STATUSES["INTERRUPTED"]: (8, "Stopped: interrupted."),
}
MESSAGES = dict(REASONS.values())           # status -> message, where one belongs to it alone


def successful(code: int) -> bool:
    """Whether a solver's code tells of success."""
    return 0 < code <= SUCCESSES


class OptimizeResult(dict):
    """The outcome of a solver: a dict whose entries are attributes as well, as SciPy's.

    `x` the best point, `fun` its value, `jac` the gradient there, `nit`, `nfev`, `njev` (`nhev`) counts, `success`, `status` (0 is
    success), `message`, and where asked for `history`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"this result has no {name!r}; it has {', '.join(self)}") from error

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return [*self.keys(), *dict.__dir__(self)]

    def __repr__(self) -> str:
        if not self:
            return "OptimizeResult()"
        width = max(map(len, self)) + 1
        lines = []
        for name, value in self.items():
            text = repr(value).split("\n")
            lines.append(f"{name:>{width}}: " + ("\n" + " " * (width + 2)).join(text))
        return "\n".join(lines)
