"""Kernels of every template, run by Numba's simulator of CUDA in a process of its own."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("check", ["pointwise_kernels", "folds", "rows_of_numbers", "matrices", "positions", "problems",
                                   "mistakes"])
def test_the_text_of_kernels_means_what_numpy_says(check):
    surroundings = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(HERE.parent)}
    found = subprocess.run([sys.executable, str(HERE / "cuda_simulated.py"), check], cwd=HERE.parent, env=surroundings,
                           capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0 and "agree" in found.stdout, found.stdout + found.stderr[-3000:]
