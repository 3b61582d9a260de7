"""Function minimisation by compiled solvers."""
from .least_squares import least_squares
from .minimize import minimize
from .result import OptimizeResult
from .root import root

__all__ = ["OptimizeResult", "least_squares", "minimize", "root"]
