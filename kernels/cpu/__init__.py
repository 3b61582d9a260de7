"""The CPU's kernels: templates as source text, their compilation by Numba, their loading as NumPy ufuncs, and threads."""
