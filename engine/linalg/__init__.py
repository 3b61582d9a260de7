"""Dense linear algebra with PyTorch's names: `engine.linalg.svd(A)`, `solve`, `norm`, ...

`solve` holds systems, LU and Cholesky, `spectral` factorisations by orthogonal matrices, `norms` norms and products,
`legacy` the older functions that are published as `engine.svd`, `engine.lu_unpack`, ... All take stacks of matrices
(..., n, m) of float32, float64, complex64 and complex128; numbers come from LAPACK and BLAS through NumPy.
"""
from ..errors import LinAlgError
from .norms import cond, cross, diagonal, matrix_norm, matrix_power, multi_dot, norm, vander, vecdot, vector_norm
from .solve import (
    cholesky,
    cholesky_ex,
    det,
    inv,
    inv_ex,
    lu,
    lu_factor,
    lu_factor_ex,
    lu_solve,
    slogdet,
    solve,
    solve_ex,
    solve_triangular,
    tensorinv,
    tensorsolve,
)
from .spectral import (
    eig,
    eigh,
    eigvals,
    eigvalsh,
    householder_product,
    lstsq,
    matrix_exp,
    matrix_rank,
    pinv,
    qr,
    svd,
    svdvals,
)

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh",
    "householder_product", "inv", "inv_ex", "lstsq", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matrix_exp",
    "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_ex",
    "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]
