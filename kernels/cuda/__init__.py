"""Numbers on CUDA devices: templates of kernels, and (`ptx`) an interpreter that runs them where there is no GPU.

Importing this package imports neither Numba nor a CUDA library.
"""
