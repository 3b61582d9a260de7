"""Function minimisation by compiled solvers."""
from .least_squares import least_squares
from .minimize import minimize
from .result import OptimizeResult
from .root import root
from .scalars import of_scalars
from .stepping import Stepper

__all__ = ["OptimizeResult", "Stepper", "least_squares", "minimize", "of_scalars", "root"]
