"""The libraries under measurement behind one set of names, so that a case is written once.

A case receives `xp`, a `Library`: `xp.exp` is the library's own function (the engine and PyTorch share an API; for
NumPy and JAX the few names that differ are adapted here), `xp.array` makes its array from NumPy's. A library that is
not installed is simply not on the shelf. Loaded by `perf/__main__.py`, used by `perf/harness.py` and all cases.
"""
import importlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np


@dataclass
class Library:
    """One library: its module, the names adapted for it and what the header says of it.

    `records` tells whether operators are recorded for a backward pass as they run (the engine and PyTorch);
    `dim_word` is the name of a reduction's argument ("dim" or "axis").
    Attribute access falls through to the adapted names, then to the module: AttributeError where neither has it.
    """

    name: str
    module: ModuleType
    version: str
    threads: str
    array: Callable[..., Any]
    to_numpy: Callable[[Any], np.ndarray]
    records: bool
    dim_word: str
    names: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in ("names", "module"):  # not set yet: copy and pickle ask before __init__ ran
            raise AttributeError(name)
        return self.names[name] if name in self.names else getattr(self.module, name)

    def wait(self, thunk: Callable[[], Any]) -> Callable[[], Any]:
        """A thunk that returns when the result is there: JAX returns before it is computed."""
        if self.name != "jax":
            return thunk
        ready = self.names["block_until_ready"]
        return lambda: ready(thunk())


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_like(name: str, module: ModuleType, version: str, threads: int) -> Library:
    """The engine or PyTorch: the names are those of the cases already."""

    def array(data: np.ndarray, requires_grad: bool = False) -> Any:
        return module.tensor(data, requires_grad=requires_grad)

    def to_numpy(value: Any) -> np.ndarray:
        value = value[0] if isinstance(value, tuple) else value  # max and min along a dimension: values, indices
        return np.asarray(value.detach())

    if hasattr(module, "set_num_threads"):
        module.set_num_threads(threads)
        seen = str(module.get_num_threads())
    else:
        seen = "its own choice"
    return Library(name, module, version, seen, array, to_numpy, True, "dim",
                   {"to_int": lambda a: a.int()})


def load_engine(threads: int) -> Library:
    """The engine of this project (a checkout need not be installed)."""
    module = importlib.import_module("engine")
    version = getattr(module, "__version__", None) or version_of("njit-engine") or "from a checkout"
    return torch_like("engine", module, version, threads)


def load_torch(threads: int) -> Library:
    """PyTorch on the CPU."""
    module = importlib.import_module("torch")
    return torch_like("torch", module, module.__version__, threads)


def load_numpy(threads: int) -> Library:
    """NumPy; its pointwise loops and reductions run on one thread, only its BLAS takes more. SciPy lends erf."""
    names = {"sigmoid": lambda a: 1 / (1 + np.exp(-a)), "var": partial(np.var, ddof=1), "erf": None,
             "to_int": lambda a: a.astype(np.int32)}
    if version_of("scipy"):
        names["erf"] = importlib.import_module("scipy.special").erf
    return Library("numpy", np, np.__version__, f"1 (BLAS {threads})", np.copy, np.asarray, False, "axis", names)


def load_jax(threads: int) -> Library:
    """JAX, eager, on the CPU, with 64-bit types; XLA reads its thread count from NPROC, set before the import."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = importlib.import_module("jax.numpy")
    names = {"jit": jax.jit, "value_and_grad": jax.value_and_grad, "vjp": jax.vjp, "nn": jax.nn,
             "logsumexp": jax.scipy.special.logsumexp, "block_until_ready": jax.block_until_ready,
             "sigmoid": jax.nn.sigmoid, "erf": jax.scipy.special.erf, "var": partial(jnp.var, ddof=1), "grad": jax.grad,
             "to_int": lambda a: a.astype(jnp.int32)}

    def to_numpy(value: Any) -> np.ndarray:
        return np.asarray(value[0] if isinstance(value, tuple) else value)

    return Library("jax", jnp, jax.__version__, f"{threads} (asked)", jnp.asarray, to_numpy, False, "axis", names)


def load_inductor(threads: int) -> Library:
    """PyTorch's compiler, which needs a C++ compiler; `xp.compile` is what tells it from PyTorch."""
    if not any(map(shutil.which, ("g++", "clang++", "cl"))):
        raise RuntimeError("no C++ compiler is installed")
    library = load_torch(threads)
    library.name = "inductor"
    return library


def load_pytensor(threads: int) -> Library:
    """PyTensor, whose functions are always compiled."""
    module = importlib.import_module("pytensor")
    return Library("pytensor", module, module.__version__, "1", np.copy, np.asarray, False, "axis")


def load_scipy(threads: int) -> Library:
    """SciPy, for its minimisers."""
    module = importlib.import_module("scipy")
    return Library("scipy", module, module.__version__, f"1 (BLAS {threads})", np.copy, np.asarray, False, "axis")


def load_optimistix(threads: int) -> Library:
    """Optimistix, whose solvers are compiled by JAX."""
    library = load_jax(threads)
    module = importlib.import_module("optimistix")
    return Library("optimistix", module, module.__version__, library.threads, library.array, library.to_numpy, False, "axis",
                   {"jit": library.jit})


LOADERS = {"engine": load_engine, "numpy": load_numpy, "torch": load_torch, "inductor": load_inductor, "jax": load_jax,
           "pytensor": load_pytensor, "scipy": load_scipy, "optimistix": load_optimistix}


def load_all(threads: int, peers: Iterable[str]) -> dict[str, Library | str]:
    """Load the engine and the peers named, in the order of `LOADERS`; the value is the reason where one is missing."""
    shelf: dict[str, Library | str] = {}
    for name, load in LOADERS.items():
        if name != "engine" and name not in peers:
            continue
        try:
            shelf[name] = load(threads)
        except ModuleNotFoundError as error:
            shelf[name] = "not installed" if error.name == name else f"cannot be imported: {error}"
        except Exception as error:  # a broken library is reported in its column; the others are still measured
            shelf[name] = f"cannot be used: {type(error).__name__}: {error}"
    return shelf
