"""How numbers are computed and differentiated: the book of operators, the templates, the store of compiled kernels.

This room knows arrays, never tensors or tapes; `engine` imports it, never the other way round. Importing it imports
neither Numba nor llvmlite: records hold plain Python functions, and Numba wakes when a kernel is missing from the store.
"""
