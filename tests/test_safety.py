"""What must hold whatever else the process does: threads, forks, spawned workers, kills, damaged caches, Ctrl-C, no warnings.

Each scenario runs in a process of its own, with a store of its own, and prints what the test compares.
"""
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

# A few operators: pointwise, fold, view, matrix product, backward; `work()` returns numbers that must be the same everywhere.
WORK = """
    import numpy as np
    import engine
    def work(n=50):
        x = engine.linspace(0.1, 2.0, n, requires_grad=True)
        y = (x.exp() * 2 + x[: n // 2].sum() - x ** 2).sum()
        y.backward()
        return round(y.item(), 3), round(x.grad.sum().item(), 3)
"""


def run(script: str, store, *, check: bool = True, env: dict | None = None, timeout: float = 300, options: tuple = ()):
    code = textwrap.dedent(WORK) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "ENGINE_CACHE_DIR": str(store), "ENGINE_NUM_THREADS": "2", **(env or {})})
    if check:
        assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store that holds the kernels of WORK, and the numbers that WORK gives."""
    store = tmp_path_factory.mktemp("filled") / "store"
    return store, run("print(work())", store).stdout


def test_importing_compiles_nothing_and_imports_neither_numba_nor_llvm(tmp_path):
    out = run("import sys\nprint('numba' in sys.modules, 'llvmlite' in sys.modules)\n"
              "from kernels.cpu import native\nprint(native.compilations)", tmp_path / "store").stdout
    assert out.split() == ["False", "False", "0"]


def test_a_process_that_finds_its_kernels_does_not_import_numba(filled):
    store, numbers = filled
    out = run("import sys\nprint(work())\nprint('numba' in sys.modules)\n"
              "from kernels.cpu import native\nprint(native.compilations)", store).stdout
    assert out == numbers + "False\n0\n"


def test_eight_threads_at_once(filled):
    store, numbers = filled
    out = run("""
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            found = {r for r in pool.map(lambda k: work(), range(400))}
            big = engine.ones(300_000)
            sums = {r for r in pool.map(lambda k: (big * 2 + big).sum().item(), range(200))}
        assert sums == {900000.0}, sums
        assert len(found) == 1, found
        print(found.pop())
    """, store).stdout
    assert out == numbers


def test_first_calls_from_many_threads(tmp_path, filled):
    out = run("""
        import threading
        gate, found = threading.Barrier(8), []
        def first():
            gate.wait()
            found.append(work())
        threads = [threading.Thread(target=first) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(found) == 8 and len(set(found)) == 1, found
        print(found[0])
    """, tmp_path / "store").stdout
    assert out == filled[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_works_after_parallel_work_in_the_parent(filled):
    store, numbers = filled
    out = run("""
        import os, sys, warnings
        big = engine.ones(2_000_000)
        before = (big + big).sum().item()
        child = os.fork()
        if child == 0:
            assert (big + big).sum().item() == before
            assert (big * 3).sum().item() == 6e6
            assert work() == work()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (big + big).sum().item() == before
        print(work())
    """, store, timeout=120).stdout
    assert out == numbers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forks_while_another_thread_computes(filled):
    store, numbers = filled
    out = run("""
        import os, threading
        big = engine.ones(1_000_000)
        stop = threading.Event()
        def churn():
            while not stop.is_set():
                big.mul(2.0).add(1.0)
        thread = threading.Thread(target=churn)
        thread.start()
        for k in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if (big + big).sum().item() == 2e6 else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        thread.join()
        print(work())
    """, store, timeout=120).stdout
    assert out == numbers


def test_spawned_workers(tmp_path, filled):
    store, numbers = filled
    script = tmp_path / "spawning.py"
    script.write_text(textwrap.dedent(WORK) + textwrap.dedent("""
        import multiprocessing
        def job(t):
            return (t * 2).sum()                 # tensors travel both ways
        if __name__ == "__main__":
            big = engine.ones(1_000_000)
            big + big
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                answers = pool.map(job, [engine.ones(10) * k for k in range(4)])
            assert [a.item() for a in answers] == [0.0, 20.0, 40.0, 60.0]
            print(work())
    """))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "ENGINE_CACHE_DIR": str(store)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == numbers


def start(script: str, store):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORK) + textwrap.dedent(script)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "ENGINE_CACHE_DIR": str(store)})


def test_four_processes_fill_an_empty_store_at_once(tmp_path, filled):
    running = [start("print(work())", tmp_path / "store") for _ in range(4)]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
        assert out == filled[1]
    assert not list((tmp_path / "store").glob("*.tmp"))


def test_kills_in_the_middle_of_compiling(tmp_path, filled):
    store = tmp_path / "store"
    for pause in (0.9, 1.3, 1.8, 2.4):
        process = start("print(work())", store)
        time.sleep(pause)
        process.kill()
        process.communicate()
    assert run("print(work())", store).stdout == filled[1]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "folder"])
def test_a_damaged_store_is_mended(tmp_path, filled, damage):
    store = tmp_path / "store"
    script = "print(work())\nfrom kernels.cpu import native\nprint(native.compilations > 0)"
    run(script, store)
    paths = sorted(store.glob("*.kernel"))
    assert len(paths) > 5
    contents = [p.read_bytes() for p in paths]
    for k, path in enumerate(paths):
        data = contents[k]
        if damage == "truncated":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "flipped":
            middle = len(data) * 2 // 3
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:])
        elif damage == "foreign":
            path.write_bytes(contents[(k + 1) % len(paths)])
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
            path.mkdir()
    assert run(script, store).stdout == filled[1] + "True\n"


def test_no_writable_folder_at_all(tmp_path, filled):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    assert run("print(work())", blocker / "store").stdout == filled[1]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of another process is POSIX's")
def test_ctrl_c_in_long_work(filled):
    process = start("""
        import sys, time
        x = engine.ones(4_000_000)
        x.exp().sum()
        print("ready", flush=True)
        try:
            while True:
                x = x.exp().log()
        except KeyboardInterrupt:
            print("interrupted", work(), flush=True)
    """, filled[0])
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err[-2000:]
    assert out == "interrupted " + filled[1] and time.monotonic() - began < 20


def test_no_warnings_that_pytorch_does_not_give(tmp_path):
    run("""
        inf, nan = float("inf"), float("nan")
        x = engine.tensor([0.0, -1.0, inf, -inf, nan, 1e38, -0.0], requires_grad=True)
        for f in (engine.log, engine.sqrt, engine.exp, engine.reciprocal, engine.rsqrt, lambda t: t / 0, lambda t: t ** -1,
                  lambda t: t * 1e38, engine.sigmoid, engine.tanh, engine.sum, engine.mean, engine.max, lambda t: t.var()):
            x.grad = None
            f(x).sum().backward()
        x.detach().to(engine.int32); x.detach() == x.detach()
        engine.tensor([nan]).max(); engine.zeros(0).sum()
    """, tmp_path / "store", options=("-W", "error"))
