"""Question: how long does a person wait, from the command line to the answer, in a process that begins with nothing?

Each sample starts the same interpreter anew. The engine's store of kernels is a temporary folder (ENGINE_CACHE_DIR):
filled by the warm-up for the first two cases, new and empty for every sample of the last. Files compiled by Python
itself (.pyc) are warm.
"""
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from perf.harness import Case, Group

ROOT = Path(__file__).resolve().parents[2]  # a checkout's engine is importable from here

ROSENBROCK = """
def rosenbrock(x, a=1, b=5):
    return (a - x[0]) ** 2 + b * (x[1] - x[0] ** 2) ** 2
"""

TENSOR_STEPS = ROSENBROCK + """
import {module} as torch
x = torch.tensor([-1.0, 1.0], requires_grad=True)
for _ in range(10):
    rosenbrock(x).backward()
    with torch.no_grad():
        x.sub_(0.01 * x.grad)
        x.grad.zero_()
print(*x.tolist())
"""

JAX_STEPS = ROSENBROCK + """
import jax
x = jax.numpy.array([-1.0, 1.0])
gradient = jax.grad(rosenbrock)
for _ in range(10):
    x = x - 0.01 * gradient(x)
print(*x.tolist())
"""

NUMPY_STEPS = """
import numpy as np
x = np.array([-1.0, 1.0], np.float32)
for _ in range(10):
    residual = x[1] - x[0] ** 2
    x = x - np.float32(0.01) * np.array([-2 * (1 - x[0]) - 20 * x[0] * residual, 10 * residual], np.float32)
print(*x.tolist())
"""


def descend(x, y, steps=10):
    """Where the descent ends, in plain Python: a process that did something else must not pass for a fast one."""
    for _ in range(steps):
        residual = y - x * x
        x, y = x - 0.01 * (-2 * (1 - x) - 20 * x * residual), y - 0.01 * 10 * residual
    return x, y


def launch(source: str, store: str, **variables: str) -> str:
    """Run Python source in a new process with the given store (and environment variables); returns what it printed.

    RuntimeError if it failed.
    """
    environment = os.environ | {"ENGINE_CACHE_DIR": store} | variables
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process ended with code {done.returncode}: {last}")
    return done.stdout


def ten_steps(xp, new_store):
    """Import and ten steps of descent; with `new_store` every process finds its own empty folder (the engine only)."""
    source = {"numpy": NUMPY_STEPS, "jax": JAX_STEPS}.get(xp.name, TENSOR_STEPS.format(module=xp.name))
    if new_store and xp.name != "engine":
        return None
    folder = tempfile.TemporaryDirectory(prefix="perf-store-", ignore_cleanup_errors=True)
    numbers = itertools.count()
    end = descend(-1.0, 1.0)

    def once():
        store = os.path.join(folder.name, str(next(numbers)) if new_store else "store")
        seen = [float(word) for word in launch(source, store).split()]
        if len(seen) != 2 or max(abs(x - y) for x, y in zip(seen, end, strict=True)) > 1e-4:
            raise RuntimeError(f"ten steps end at {end}, this process ended at {seen}")

    return once


def import_only(xp):
    """Start, import the library, end."""
    folder = tempfile.TemporaryDirectory(prefix="perf-store-", ignore_cleanup_errors=True)
    return lambda: launch(f"import {xp.name}", folder.name)


GROUPS = (
    Group("process", "how long is a whole process, from its start to its end?", (
        Case("Rosenbrock 10 steps, store full", lambda xp: ten_steps(xp, False), 0.2, kind="process"),
        Case("import", import_only, 0.12, kind="process"),
        Case("Rosenbrock, store empty", lambda xp: ten_steps(xp, True), 5.0, against=None, kind="process"),
    )),
)
