"""The acceptance tests of autograd and networks with every new tensor on an emulated CUDA device, in a process of their own.

Three things are the CPU's alone, as in PyTorch: sharing memory by `numpy()` and `from_numpy`, and printing without `device=`. So
here the two copy and the device is not printed. Skipped where the acceptance tests do not lie beside the checkout.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_checks import needs_numba_cuda

HOME = Path(__file__).parent.parent
ACCEPTANCE = HOME.parent / "shared" / "acceptance"

PLUGIN = """
import engine

share = engine.Tensor.numpy
engine.Tensor.numpy = lambda self, *, force=False: share(self if self.is_cpu else self.cpu(), force=force)
taken = engine.from_numpy
engine.from_numpy = lambda array: taken(array).cuda()
shown = engine.Tensor.__repr__
engine.Tensor.__repr__ = lambda self, **options: shown(self, **options).replace(", device='cuda:0'", "")


def pytest_configure(config):
    engine.set_default_device("cuda")
"""


@needs_numba_cuda
@pytest.mark.skipif(not ACCEPTANCE.exists(), reason="no acceptance tests beside this checkout")
@pytest.mark.parametrize("name", ["test_autograd.py", "test_networks.py"])
def test_acceptance_on_an_emulated_device(name, tmp_path):
    (tmp_path / "everything_on_cuda.py").write_text(PLUGIN)
    surroundings = {**os.environ, "ENGINE_CUDA": "emulate", "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HOME)])}
    found = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "everything_on_cuda", "-p", "no:cacheprovider", "-n", "0",
                            "--rootdir", str(tmp_path), str(ACCEPTANCE / name)], env=surroundings, cwd=tmp_path,
                           capture_output=True, text=True, timeout=900, check=False)
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
    assert "passed" in found.stdout
