"""The measuring room: is this engine as fast, and as accurate, as the libraries that people use today?

`python -m perf` answers with one table, engine against NumPy, PyTorch and JAX, sampled in turn within one run.
Nothing here is part of passing or failing: speed is reported, never asserted. Cases are in `perf/cases/`, the clock
is in `perf/harness.py`.
"""
