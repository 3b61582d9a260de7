"""A DataLoader with worker processes: order, streams, seeds, errors, death of a worker, and that nothing stays behind."""
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import engine
from engine.utils import data
from engine.utils.data import DataLoader, TensorDataset, get_worker_info

WAYS = [way for way in multiprocessing.get_all_start_methods() if way != "forkserver"]
PAIRS = TensorDataset(engine.arange(10.0), engine.arange(20).reshape(10, 2))
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Numbers(data.Dataset):
    """Samples `act(k)`."""

    def __init__(self, size=10, act=None):
        self.size, self.act = size, act

    def __len__(self):
        return self.size

    def __getitem__(self, k):
        return k if self.act is None else self.act(k)


class Stream(data.IterableDataset):
    """Worker k gives 100 k, 100 k + 1, ...: one number more than the worker before."""

    def __init__(self, bad=None):
        self.bad = bad

    def __iter__(self):
        me = get_worker_info()
        for k in range(100 * me.id, 100 * me.id + 3 + me.id):
            if k == self.bad:
                raise ValueError("bad number")
            yield k


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


def fail_at_five(k):
    if k == 5:
        raise ValueError(f"sample {k}")
    return k


def missing_key(k):
    raise KeyError("nowhere")


def odd_error(k):
    raise Odd(1, 2)


def die_at_four(k):
    if k == 4:
        os._exit(3)
    return k


def slow(k):
    time.sleep(1.5)


def local_thing(k):
    return lambda: k


def stop_iteration(k):
    return next(iter([]))


def facts(k):
    me = get_worker_info()
    return me.id, me.num_workers, me.seed, me.dataset.size, random.random(), float(np.random.rand()), engine.rand(1).item()


def mixed(k):
    return {"image": engine.full((2, 3), float(k)), "name": f"n{k}", "empty": engine.zeros(0), "array": np.arange(3) + k}


def two_fail(worker):
    if worker:
        raise ZeroDivisionError("at the start")


def only(samples):
    return samples[0]


def lists(loader):
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize("way", WAYS)
def test_batches_arrive_in_order(way):
    loader = DataLoader(PAIRS, batch_size=3, num_workers=2, multiprocessing_context=way)
    assert [(a.tolist(), b[0].tolist()) for a, b in loader] == [
        ([0, 1, 2], [0, 1]), ([3, 4, 5], [6, 7]), ([6, 7, 8], [12, 13]), ([9], [18, 19])]
    engine.manual_seed(3)
    shuffled = lists(DataLoader(Numbers(), batch_size=4, shuffle=True, num_workers=1, multiprocessing_context=way))
    engine.manual_seed(3)
    assert shuffled == lists(DataLoader(Numbers(), batch_size=4, shuffle=True))
    with pytest.raises(ValueError, match=r"(?s)Caught ValueError in DataLoader worker process 0.*sample 5"):
        lists(DataLoader(Numbers(act=fail_at_five), batch_size=10, num_workers=1, multiprocessing_context=way))


def test_all_kinds_of_samples_travel():
    first, second = DataLoader(Numbers(4, mixed), batch_size=2, num_workers=1)
    assert second["image"].tolist() == [[[2.0] * 3] * 2, [[3.0] * 3] * 2] and second["name"] == ["n2", "n3"]
    assert second["empty"].shape == (2, 0) and second["array"].tolist() == [[2, 3, 4], [3, 4, 5]]
    first["image"].add_(1)                          # memory of its own, to write to
    assert first["image"][0, 0, 0].item() == 1
    large = engine.arange(300_000.0)
    (batch,), = DataLoader(TensorDataset(large), batch_size=300_000, num_workers=1)
    assert engine.equal(batch, large)
    assert lists(DataLoader([], num_workers=1)) == [] and list(DataLoader(Numbers(3), batch_size=None, num_workers=2)) == [0, 1, 2]
    assert sorted(k for batch in DataLoader(Numbers(), num_workers=2, in_order=False) for k in batch.tolist()) == list(range(10))


def test_streams_go_round_the_workers():
    assert lists(DataLoader(Stream(), batch_size=2, num_workers=2)) == [[0, 1], [100, 101], [2], [102, 103]]
    assert lists(DataLoader(Stream(), batch_size=2, num_workers=2, drop_last=True)) == [[0, 1], [100, 101], [102, 103]]
    assert list(DataLoader(Stream(), batch_size=None, num_workers=2)) == [0, 100, 1, 101, 2, 102, 103]
    with pytest.raises(ValueError, match=r"(?s)Caught ValueError in DataLoader worker process 1.*bad number"):
        lists(DataLoader(Stream(bad=101), batch_size=2, num_workers=2))


def test_persistent_workers():
    loader = DataLoader(Numbers(act=os_id), batch_size=4, num_workers=2, persistent_workers=True)
    first, second = lists(loader), lists(loader)
    assert first == second and len(first) == 3 and iter(loader) is iter(loader)
    stream = DataLoader(Stream(), batch_size=2, num_workers=2, persistent_workers=True)
    assert [next(iter(stream)).tolist() for _ in range(3)] == [[0, 1]] * 3          # what is left of a pass is thrown away
    assert lists(stream) == lists(stream) == [[0, 1], [100, 101], [2], [102, 103]]
    processes = stream._iterator._processes
    assert all(p.is_alive() for p in processes)
    stream._iterator = None
    assert not any(p.is_alive() for p in processes)


def os_id(k):
    return os.getpid()


def test_seeds_and_what_a_worker_knows():
    def load(seed):
        return list(DataLoader(Numbers(4, facts), num_workers=2, collate_fn=only,
                               generator=engine.Generator().manual_seed(seed)))
    one, again, other = load(3), load(3), load(4)
    assert one == again != other
    assert [f[:2] for f in one] == [(0, 2), (1, 2), (0, 2), (1, 2)] and one[1][2] == one[0][2] + 1 and one[0][3] == 4
    numbers = [f[4:] for f in one]
    assert len({n for f in numbers for n in f}) == 12           # each worker and each library draws its own
    random.seed(one[1][2])
    assert random.random() == one[1][4] and engine.manual_seed(one[1][2]) and engine.rand(1).item() == one[1][6]


@pytest.mark.parametrize("act, error, words", [
    (fail_at_five, ValueError, r"(?s)^Caught ValueError in DataLoader worker process 0\.\nOriginal Traceback \(most recent call "
                               r"last\):\n.*in fail_at_five\n.*ValueError: sample 5\n$"),
    (missing_key, KeyError, r"(?s)^Caught KeyError in DataLoader worker process 0\.\nOriginal Traceback.*KeyError: 'nowhere'\n$"),
    (odd_error, RuntimeError, r"(?s)^Caught Odd in DataLoader worker process 0\.\nOriginal Traceback.*Odd: \(1, 2\)\n$"),
    (stop_iteration, StopIteration, r"(?s)^Caught StopIteration in DataLoader worker process 0\."),
    (die_at_four, RuntimeError, r"^DataLoader worker \(pid\(s\) \d+\) exited unexpectedly$"),
])
def test_errors_of_workers(act, error, words):
    loader = iter(DataLoader(Numbers(act=act), num_workers=1))
    with pytest.raises(error, match=words):
        while True:
            next(loader)
    loader._end()


def test_results_that_cannot_travel():
    with pytest.raises(RuntimeError, match=r"(?s)in DataLoader worker process 0.*(pickle|local object)"):
        list(DataLoader(Numbers(act=local_thing), num_workers=1, collate_fn=only))


def test_errors_at_the_start():
    loader = iter(DataLoader(Numbers(), num_workers=2, worker_init_fn=two_fail))
    assert next(loader).tolist() == [0]
    with pytest.raises(ZeroDivisionError, match=r"(?s)Caught ZeroDivisionError in DataLoader worker process 1.*at the start"):
        next(loader)
    with pytest.raises(AssertionError, match="prefetch_factor must be greater than 0"):
        iter(DataLoader(Numbers(), num_workers=1, prefetch_factor=0))
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0.3 seconds"):
        list(DataLoader(Numbers(act=slow), num_workers=1, timeout=0.3))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_worker_is_reported_and_replaced():
    loader = DataLoader(Numbers(100), num_workers=1, persistent_workers=True)
    batches = iter(loader)
    os.kill(batches._processes[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly"):
        for _ in batches:
            pass
    assert len(lists(loader)) == 100


def test_leaving_early_leaves_nothing():
    loader = DataLoader(Numbers(1000), num_workers=2)
    batches = iter(loader)
    next(batches)
    processes = batches._processes
    before = threading.active_count()
    del batches
    assert not any(p.is_alive() for p in processes) and threading.active_count() == before
    lists(loader)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and process ids of POSIX")
@pytest.mark.parametrize("end, code", [("os.kill(os.getpid(), signal.SIGINT)", 1), ("os.kill(os.getpid(), signal.SIGKILL)", -9),
                                       ("sys.exit(0)", 0)])
def test_no_orphans(end, code):
    """However the main process ends, its workers end too."""
    program = textwrap.dedent(f"""
        import os, signal, sys, time
        from engine.utils.data import DataLoader, Dataset
        class Slow(Dataset):
            def __len__(self):
                return 1000
            def __getitem__(self, k):
                time.sleep(0.01)
                return k
        batches = iter(DataLoader(Slow(), num_workers=2, multiprocessing_context="fork"))
        next(batches)
        print(*[p.pid for p in batches._processes], flush=True)
        try:
            {end}
            for _ in batches: pass
        except KeyboardInterrupt:
            sys.exit(1)
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code and not done.stderr
    until = time.monotonic() + 20
    for pid in map(int, done.stdout.split()):
        while running(pid):
            assert time.monotonic() < until, f"worker {pid} is still there"
            time.sleep(0.05)


def running(pid):
    """Whether a process is there and no zombie that its new parent has yet to collect."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")
