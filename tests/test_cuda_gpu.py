"""The tests of tensors on a device once more on a real GPU, where there is one, in a process of their own."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_checks import needs_numba_cuda

from engine import devices

HERE = Path(__file__).parent


@needs_numba_cuda
@pytest.mark.parametrize("name", ["test_cuda_tensors.py", "test_cuda_gathers.py", "test_cuda_minimize.py"])
def test_on_the_gpu(name):
    count, reason = devices._cuda_devices()
    if not count:
        pytest.skip(f"no GPU, these cases ran on the emulated device alone. {reason}")
    surroundings = {**os.environ, "ENGINE_TEST_DEVICE": "gpu"}
    surroundings.pop("ENGINE_CUDA", None)
    found = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(HERE / name)],
                           env=surroundings, cwd=HERE.parent, capture_output=True, text=True, timeout=900, check=False)
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
