"""Kernels compiled ahead: packs, `python -m engine warmup` and `info`. What each test asks of another process runs there."""
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from engine import __main__ as command
from engine import warmup
from kernels import packs, processor

USE = """
import sys
from kernels.cpu import native
import engine
x = engine.tensor([1.0, 2.0, 3.0], dtype=engine.float64)
print(x.exp().tolist(), native.compilations, "numba" in sys.modules)
"""


def run(*arguments, folder, **environment):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"ENGINE_CACHE_DIR": str(folder), **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack for any processor of this kind with the kernels that `USE` takes."""
    folder = tmp_path_factory.mktemp("packs")
    file = folder / "own.pack"
    make = f"""
from engine import warmup
import engine
warmup.WORK = {{"exp": lambda x: engine.tensor([1.0, 2.0, 3.0], dtype=engine.float64).exp()}}
warmup.run(("float64",), "generic", {str(file)!r}, tell=lambda line: None)
"""
    run("-c", make, folder=folder / "store")
    return file


def test_a_pack_takes_the_place_of_the_compiler(pack, tmp_path):
    assert run("-c", USE, folder=tmp_path / "a", ENGINE_PACKS=str(pack)) == run("-c", USE, folder=tmp_path / "b",
                                                                                  ENGINE_PACKS=str(pack.parent))
    found = run("-c", USE, folder=tmp_path / "a", ENGINE_PACKS=str(pack))
    assert found.split("]")[1].split() == ["0", "False"]
    np.testing.assert_allclose(json.loads(found.split("]")[0] + "]"), np.exp([1.0, 2.0, 3.0]), rtol=1e-15)


def test_a_damaged_pack_is_none(pack, tmp_path):
    data = pack.read_bytes()
    assert packs.read(pack)[0]["target"] == "generic"
    flipped = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    for k, wrong in enumerate((data[:-1], data[:40], b"", flipped, b"x" + data, data.replace(b"generic", b"Generic"))):
        file = tmp_path / f"{k}.pack"
        file.write_bytes(wrong)
        assert packs.read(file) is None
    assert packs.read(tmp_path / "none.pack") is None


def test_a_pack_of_another_system_or_processor_is_not_asked(pack, monkeypatch):
    monkeypatch.setenv("ENGINE_PACKS", str(pack))
    fresh = packs.usable.__wrapped__
    assert [file for file, _, _ in fresh()] == [pack]
    own = packs.place()
    monkeypatch.setattr(packs, "place", lambda: own | {"python": "cpython-299"})
    assert fresh() == ()
    monkeypatch.setattr(packs, "place", lambda: own)
    monkeypatch.setattr(processor, "suits", lambda name: False)
    assert fresh() == ()


def test_levels_contain_one_another():
    levels = [processor.level(name) for name in ("generic", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")]
    assert all(a < b for a, b in itertools.pairwise(levels))
    assert "avx2" in levels[3] and "avx512f" not in levels[3]
    assert processor.level("znver4") is None
    assert processor.suits("generic") and processor.suits(processor.host()[0])
    assert not processor.suits("no such processor")


def test_unknown_targets_are_refused(capsys):
    with pytest.raises(ValueError, match="generic"):
        warmup.run(target="z80")
    assert command.main(["warmup", "--target", "z80"]) == 2
    assert "z80" in capsys.readouterr().err


def test_info_names_versions_processor_and_store(tmp_path):
    text = run("-m", "engine", "info", folder=tmp_path / "store")
    assert {line.split()[0] for line in text.splitlines()} >= {"engine", "Python", "numba", "llvmlite", "numpy", "processor",
                                                               "threads", "store", "devices"}
    assert str(tmp_path) in text and "cpu" in text


def test_warmup_leaves_nothing_to_compile(tmp_path):
    work = "from engine import warmup; warmup.WORK = {'random numbers': warmup._random}; warmup.run(('float32',))"
    first, second = (run("-c", work, folder=tmp_path) for _ in range(2))
    assert "   0 kernels compiled" not in first and "   0 kernels compiled" in second
