"""Shared by all tests: where kernels are stored while testing, and seeds that come from a test's name."""
import os
import zlib

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def seeded(request):
    """Every test begins with the engine's generator in the same state."""
    import engine
    engine.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def clean_book():
    """Records that a test makes leave the book with it."""
    from kernels.book import BOOK
    before = dict(BOOK)
    yield
    for name in [n for n in BOOK if n not in before]:
        del BOOK[name]
    BOOK.update(before)


@pytest.fixture
def emulated(monkeypatch):
    """ENGINE_CUDA=emulate inside one test; `engine.cuda`. ENGINE_TEST_DEVICE=gpu lets the same tests run on the GPU."""
    import engine
    from engine import devices
    if os.environ.get("ENGINE_TEST_DEVICE") == "gpu":
        yield engine.cuda
        return
    from kernels.cuda import device as places
    monkeypatch.setenv("ENGINE_CUDA", "emulate")
    devices._cuda_devices.cache_clear()
    yield engine.cuda
    places.state.device = 0
    places.state.streams.clear()
    devices._cuda_devices.cache_clear()
