"""The store of kernels: what identifies an entry, and that no damaged, foreign or unsafe file is ever loaded."""
import os
import stat
import subprocess
import sys
import textwrap

import pytest

from kernels import store

CODE = b"\x90" * 64


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE_CACHE_DIR", str(tmp_path / "store"))
    store.folder.cache_clear()
    yield tmp_path / "store"
    store.folder.cache_clear()
    store._memory.clear()


def entry(folder, key="k" * 40):
    store.save(key, {"symbol": "s", "needs": []}, CODE)
    return folder / f"{key}.kernel"


def test_what_was_saved_is_loaded(folder):
    entry(folder)
    assert store.load("k" * 40) == ({"symbol": "s", "needs": []}, CODE)
    assert store.load("x" * 40) is None
    assert [p.name for p in folder.iterdir()] == ["k" * 40 + ".kernel"]      # no temporary file stays


@pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
def test_folder_and_files_belong_to_the_user_alone(folder):
    path = entry(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    path.chmod(0o666)                       # somebody else could have written it
    assert store.load("k" * 40) is None
    path.chmod(0o600)
    assert store.load("k" * 40) is not None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_loaded(folder):
    os.chown(entry(folder), 12345, 12345)
    assert store.load("k" * 40) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(folder):
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    assert store.folder() is None
    store.save("m" * 40, {"symbol": "s"}, CODE)
    assert store.load("m" * 40) == ({"symbol": "s"}, CODE)        # kept in memory
    assert list(folder.iterdir()) == []


def test_every_truncation_and_every_flipped_byte_counts_as_missing(folder):
    path = entry(folder)
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        assert store.load("k" * 40) is None, n
    for n in range(len(whole)):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 0x10]) + whole[n + 1:])
        found = store.load("k" * 40)
        assert found is None, (n, whole[n])
    path.write_bytes(whole)
    assert store.load("k" * 40) is not None


def test_an_entry_under_another_name_is_foreign(folder):
    path = entry(folder)
    path.rename(folder / ("z" * 40 + ".kernel"))
    assert store.load("z" * 40) is None


def test_without_a_writable_folder_entries_live_in_memory(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("ENGINE_CACHE_DIR", str(blocker / "store"))
    store.folder.cache_clear()
    assert store.folder() is None
    store.save("n" * 40, {"symbol": "s"}, CODE)
    assert store.load("n" * 40) == ({"symbol": "s"}, CODE)
    store.folder.cache_clear()
    store._memory.clear()


# --- identity ---------------------------------------------------------------------------------------------------------

def _make(text: str, **space):
    exec(textwrap.dedent(text), space)
    return space["f"]


def test_identity_follows_code_constants_helpers_and_closures():
    base = "def h(x):\n    return x + 1\ndef f(x):\n    return h(x) * K"
    original = store.identity(_make(base, K=2.0))
    assert original == store.identity(_make(base, K=2.0))
    assert original != store.identity(_make(base, K=3.0))
    assert original != store.identity(_make(base.replace("x + 1", "x + 2"), K=2.0))
    assert original != store.identity(_make(base.replace("h(x) * K", "h(x) - K"), K=2.0))
    maker = "def outer(c):\n    def f(x):\n        return x * c\n    return f\nf = outer({})"
    assert store.identity(_make(maker.format("1.5"))) != store.identity(_make(maker.format("2.5")))
    recursive = _make("def f(n):\n    return n if n < 2 else f(n - 1)")
    assert store.identity(recursive) == store.identity(_make("def f(n):\n    return n if n < 2 else f(n - 1)"))


def test_identity_is_the_same_in_another_process():
    script = ("from kernels import store\nimport kernels.ops\nfrom kernels.book import BOOK\n"
              "print([store.identity(BOOK[n].scalar) for n in ('add', 'div', 'square')])\n"
              "def f(x):\n    return x in {'b', 'a', 'c'}\nprint(store.identity(f))")
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": str(seed)}).stdout for seed in (1, 2)}
    assert len(runs) == 1
