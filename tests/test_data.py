"""Data sets, samplers, collating, and a DataLoader that loads in its own process. Worker processes: test_data_workers."""
import itertools
import pickle
from collections import Counter, OrderedDict, namedtuple

import numpy as np
import pytest

import engine
from engine.utils import data
from engine.utils.data import DataLoader, TensorDataset

A, B = np.arange(10.0), np.arange(20).reshape(10, 2)
PAIRS = TensorDataset(engine.tensor(A), engine.tensor(B))
Point = namedtuple("Point", "x y")


class Squares(data.Dataset):
    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, k):
        return k * k


class Batched(Squares):
    def __getitems__(self, indices):
        return [-k for k in indices]


class Stream(data.IterableDataset):
    def __init__(self, size, length=None):
        self.size, self.length = size, length

    def __iter__(self):
        return iter(range(self.size))

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def lists(loader):
    return [batch.tolist() for batch in loader]


# --- data sets --------------------------------------------------------------------------------------------------------

def test_data_sets():
    first, second = PAIRS[2]
    assert first.item() == 2 and second.tolist() == [4, 5] and len(PAIRS) == 10 and PAIRS[-1][0].item() == 9
    stacked = data.StackDataset(a=Squares(3), b=Batched(3))
    assert stacked[2] == {"a": 4, "b": 4} and stacked.__getitems__([1, 2]) == [{"a": 1, "b": -1}, {"a": 4, "b": -2}]
    assert data.StackDataset(Squares(3), Batched(3)).__getitems__([2]) == [(4, -2)] and len(stacked) == 3
    joined = Squares(3) + Squares(4)
    assert [joined[k] for k in (0, 2, 3, 6, -1, -7)] == [0, 4, 0, 9, 9, 0]
    assert joined.cumulative_sizes == [3, 7] and len(joined) == 7
    chained = Stream(2, 5) + Stream(3, 6)
    assert list(chained) == [0, 1, 0, 1, 2] and len(chained) == 11
    part = data.Subset(Squares(), [3, 1])
    assert part[0] == 9 and part.__getitems__([1, 0]) == [1, 9] and len(part) == 2
    assert data.Subset(Batched(), [3]).__getitems__([0]) == [-3]


@pytest.mark.parametrize("make, error, words", [
    (lambda: TensorDataset(engine.ones(2), engine.ones(3)), AssertionError, "Size mismatch between tensors"),
    (lambda: data.Dataset()[0], NotImplementedError, "Subclasses of Dataset should implement __getitem__."),
    (lambda: data.StackDataset(), ValueError, "At least one dataset should be passed"),
    (lambda: data.StackDataset(Squares(2), Squares(3)), ValueError, "Size mismatch between datasets"),
    (lambda: data.StackDataset(Squares(), a=Squares()), ValueError, "both types are given"),
    (lambda: data.ConcatDataset([]), AssertionError, "datasets should not be an empty iterable"),
    (lambda: data.ConcatDataset([Stream(1)]), AssertionError, "ConcatDataset does not support IterableDataset"),
    (lambda: (Squares(2) + Squares(2))[-5], ValueError, "absolute value of index should not exceed dataset length"),
    (lambda: list(Stream(2) + Squares(2)), AssertionError, "ChainDataset only supports IterableDataset"),
    (lambda: type("S", (data.Subset,), {"__getitem__": lambda s, k: 1})(Squares(), [1]), NotImplementedError, "must also override"),
    (lambda: data.random_split(Squares(), [3, 6]), ValueError,
     "Sum of input lengths does not equal the length of the input dataset"),
    (lambda: data.random_split(Squares(), [1.5, -0.5]), ValueError, "Fraction at index 0 is not between 0 and 1"),
])
def test_data_sets_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_random_split():
    def split(*lengths, size=10, seed=1):
        return [list(p.indices) for p in data.random_split(Squares(size), lengths, engine.Generator().manual_seed(seed))]
    assert [len(p) for p in split(3, 7)] == [3, 7] and sorted(k for part in split(3, 7) for k in part) == list(range(10))
    assert split(3, 7) == split(3, 7) != split(3, 7, seed=2)
    assert [len(p) for p in split(0.25, 0.25, 0.5, size=11)] == [3, 3, 5]       # 2 + 2 + 5, and what is left to the first two
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        assert [len(p) for p in split(0.9, 0.1, size=2)] == [2, 0]


# --- samplers ---------------------------------------------------------------------------------------------------------

def test_samplers():
    assert list(data.SequentialSampler(range(4))) == [0, 1, 2, 3]
    s = data.RandomSampler(range(50))
    one, two = list(s), list(s)
    assert sorted(one) == sorted(two) == list(range(50)) and one != two and len(s) == 50
    engine.manual_seed(5)
    three = list(s)
    engine.manual_seed(5)
    assert list(s) == three
    g = engine.Generator().manual_seed(1)
    first = list(data.RandomSampler(range(50), generator=g))
    assert first == list(data.RandomSampler(range(50), generator=g.manual_seed(1)))
    assert Counter(data.RandomSampler(range(5), num_samples=12)).most_common()[-1][1] == 2       # two whole rounds and two more
    drawn = list(data.RandomSampler(range(5), replacement=True, num_samples=200))
    assert len(drawn) == 200 and set(drawn) == set(range(5))
    assert sorted(data.SubsetRandomSampler([4, 6, 9])) == [4, 6, 9]
    weighted = data.WeightedRandomSampler([0.0, 3.0, 1.0], 4000)
    counts = Counter(weighted)
    assert counts[0] == 0 and 0.7 < counts[1] / 4000 < 0.8 and len(weighted) == 4000
    assert sorted(data.WeightedRandomSampler([1.0, 3.0, 1.0], 3, replacement=False)) == [0, 1, 2]
    batches = data.BatchSampler(range(7), 3, False)
    assert list(batches) == [[0, 1, 2], [3, 4, 5], [6]] and len(batches) == 3
    short = data.BatchSampler(range(7), 3, True)
    assert list(short) == [[0, 1, 2], [3, 4, 5]] and len(short) == 2


@pytest.mark.parametrize("make, error, words", [
    (lambda: data.RandomSampler([1], replacement=3), TypeError, "replacement should be a boolean value, but got replacement=3"),
    (lambda: data.RandomSampler([]), ValueError, "num_samples should be a positive integer value, but got num_samples=0"),
    (lambda: data.WeightedRandomSampler([1.0], True), ValueError, "num_samples should be a positive integer value"),
    (lambda: data.WeightedRandomSampler([1.0], 1, 3), ValueError, "replacement should be a boolean value"),
    (lambda: data.WeightedRandomSampler([[1.0]], 1), ValueError,
     r"weights should be a 1d sequence but given weights have shape \(1, 1\)"),
    (lambda: data.BatchSampler(range(3), 0, False), ValueError,
     "batch_size should be a positive integer value, but got batch_size=0"),
    (lambda: data.BatchSampler(range(3), 1, None), ValueError, "drop_last should be a boolean value, but got drop_last=None"),
    (lambda: iter(data.Sampler()), NotImplementedError, None),
])
def test_samplers_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- collating --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch, values, dtype", [
    ([1, 2], [1, 2], "int64"), ([1.0, 2.0], [1, 2], "float64"), ([True, False], [True, False], "bool"),
    ([np.float32(1), np.float32(2)], [1, 2], "float32"), ([np.int16(1)], [1], "int16"), ([np.array(1.5)], [1.5], "float64"),
    ([np.ones(2), np.zeros(2)], [[1, 1], [0, 0]], "float64"), ([engine.ones(2), engine.zeros(2)], [[1, 1], [0, 0]], "float32"),
    ([engine.tensor(1), engine.tensor(2)], [1, 2], "int64"),
])
def test_collate_numbers(batch, values, dtype):
    made = data.default_collate(batch)
    assert made.tolist() == values and made.dtype is getattr(engine, dtype)


def test_collate_containers():
    assert data.default_collate(["a", "b"]) == ["a", "b"]
    made = data.default_collate([{"a": 1, "b": [2, "x"]}, {"a": 3, "b": [4, "y"]}])
    assert made["a"].tolist() == [1, 3] and made["b"][0].tolist() == [2, 4] and made["b"][1] == ("x", "y")
    point = data.default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert type(point) is Point and point.x.tolist() == [1, 3]
    assert [t.tolist() for t in data.default_collate([(1, 2.0), (3, 4.0)])] == [[1, 3], [2, 4]]
    assert type(data.default_collate([OrderedDict(a=1)])) is OrderedDict
    assert data.collate([(1, 2), (3, 4)], collate_fn_map={int: lambda b, collate_fn_map: sum(b)}) == [4, 6]
    assert data.collate([True], collate_fn_map={int: lambda b, collate_fn_map: "by base class"}) == "by base class"


@pytest.mark.parametrize("batch, error, words", [
    ([None], TypeError,
     "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found <class 'NoneType'>"),
    ([np.array(["a"])], TypeError, "found <U1"),
    ([[1], [2, 3]], RuntimeError, "each element in list of batch should be of equal size"),
    ([engine.ones(2), engine.ones(3)], RuntimeError, "stack expects each tensor to be equal size"),
    ([{"a": 1}, {"b": 1}], KeyError, "a"),
])
def test_collate_refuses(batch, error, words):
    with pytest.raises(error, match=words):
        data.default_collate(batch)


def test_convert():
    made = data.default_convert({"a": np.ones(1), "b": (np.float32(2), "x"), "c": [np.ones(1)], "d": Point(1, np.ones(1))})
    assert made["a"].tolist() == [1] and made["b"][0].item() == 2 and made["b"][1] == "x" and made["c"][0].tolist() == [1]
    assert made["d"].x == 1 and made["d"].y.tolist() == [1] and data.default_convert(np.array(["a"])).tolist() == ["a"]


# --- loading ----------------------------------------------------------------------------------------------------------

def chunks(size, drop_last=False, order=range(10)):
    found = [list(c) for c in itertools.batched(order, size)] if hasattr(itertools, "batched") else [
        list(order)[k:k + size] for k in range(0, len(order), size)]
    return [c for c in found if len(c) == size or not drop_last]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 3, 10, 20])
def test_batches_in_order(size, drop_last):
    loader = DataLoader(PAIRS, batch_size=size, drop_last=drop_last)
    expected = chunks(size, drop_last)
    assert len(loader) == len(expected) == len(list(loader)) == len(iter(loader))
    for (a, b), rows in zip(loader, expected, strict=True):
        assert a.tolist() == A[rows].tolist() and b.tolist() == B[rows].tolist()
    assert lists(DataLoader(Squares(), batch_size=size, drop_last=drop_last)) == [[k * k for k in c] for c in expected]
    assert lists(DataLoader(Stream(10), batch_size=size, drop_last=drop_last)) == expected


def test_columns_equal_samples():
    """TensorDatasets are read by whole columns; the same numbers come sample by sample from a subclass."""
    class Slow(TensorDataset):
        def __getitem__(self, k):
            return super().__getitem__(k)
    slow, rows = Slow(*PAIRS.tensors), [7, 2, 2, 9]
    orders = [{"sampler": rows}, {"sampler": [1, -1]}, {"shuffle": True}, {"batch_sampler": [[1, 2], (3,), engine.tensor([4])]}, {}]
    for options, part in itertools.product(orders, (lambda d: d, lambda d: data.Subset(data.Subset(d, range(10)), [*range(10)]))):
        if "batch_sampler" not in options:
            options = {**options, "batch_size": 3}
        loads = []
        for dataset in (PAIRS, slow):
            engine.manual_seed(1)
            loads.append([[t.tolist() for t in batch] for batch in DataLoader(part(dataset), **options)])
        assert loads[0] == loads[1]
    batch, = DataLoader(PAIRS, batch_size=10)
    batch[0].zero_()
    assert PAIRS.tensors[0].tolist() == A.tolist()              # a batch is a copy
    w = engine.ones(4, requires_grad=True)
    (batch,), = DataLoader(TensorDataset(w), batch_size=4)
    batch.sum().backward()
    assert w.grad.tolist() == [1, 1, 1, 1]
    for dataset in (PAIRS, slow):
        with pytest.raises(IndexError, match="out of bounds"):
            list(DataLoader(dataset, sampler=[30]))


def test_shuffling_repeats_with_its_generator():
    g = engine.Generator()
    loader = DataLoader(PAIRS, batch_size=4, shuffle=True, generator=g)

    def order(seed):
        g.manual_seed(seed)
        return [k for batch, _ in loader for k in batch.tolist()]
    assert order(1) == order(1) != order(2) and sorted(order(3)) == A.tolist()
    assert order(1) != [k for batch, _ in loader for k in batch.tolist()]         # the next pass is another order


def test_own_ways_of_loading():
    assert lists(DataLoader(Batched(4), batch_size=2)) == [[0, -1], [-2, -3]]
    assert list(DataLoader(Squares(3), batch_size=2, collate_fn=sum)) == [1, 4]
    assert list(DataLoader(Squares(3), batch_size=None)) == [0, 1, 4] and list(DataLoader(Stream(2), batch_size=None)) == [0, 1]
    assert lists(DataLoader([1.5, 2.5, 3.5], batch_size=2)) == [[1.5, 2.5], [3.5]] and lists(DataLoader([])) == []
    assert lists(DataLoader(Squares(), batch_sampler=data.BatchSampler([3, 2, 1], 2, False))) == [[9, 4], [1]]
    loader = DataLoader(Stream(5, length=3), batch_size=2)
    assert len(loader) == 2
    told = DataLoader(Stream(3, length=2), batch_size=1)
    assert len(told) == 2
    with pytest.warns(UserWarning,
                      match=r"was reported to be 2\(when accessing len\(dataloader\)\), but 3 samples have been fetched"):
        assert lists(told) == [[0], [1], [2]]


@pytest.mark.parametrize("arguments, words", [
    ({"num_workers": -1}, "num_workers option should be non-negative"), ({"timeout": -1}, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, "prefetch_factor option could only be specified in multiprocessing"),
    ({"num_workers": 1, "prefetch_factor": -2}, "prefetch_factor option should be non-negative"),
    ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
    ({"dataset": Stream(1), "shuffle": True}, "IterableDataset: expected unspecified shuffle option, but got shuffle=True"),
    ({"dataset": Stream(1), "sampler": [1]}, r"expected unspecified sampler option, but got sampler=\[1\]"),
    ({"dataset": Stream(1), "batch_sampler": [1]}, "expected unspecified batch_sampler option"),
    ({"sampler": [1], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler"),
    ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
    ({"batch_size": 0}, "batch_size should be a positive integer value"),
    ({"multiprocessing_context": "spawn"}, "multiprocessing_context can only be used with multi-process loading"),
    ({"num_workers": 1, "multiprocessing_context": "bla"}, "should specify a valid start method in"),
    ({"dataset": [], "shuffle": True}, "num_samples should be a positive integer value, but got num_samples=0"),
])
def test_loader_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        DataLoader(**{"dataset": PAIRS, **arguments})


def test_loader_attributes():
    loader = DataLoader(PAIRS, 2)
    assert loader.batch_size == 2 and type(loader.sampler) is data.SequentialSampler and loader.collate_fn is data.default_collate
    assert DataLoader(PAIRS, batch_size=None).collate_fn is data.default_convert and loader.prefetch_factor is None
    assert DataLoader(PAIRS, num_workers=1).prefetch_factor == 2 and data.get_worker_info() is None
    with pytest.raises(ValueError, match="batch_size attribute should not be set after DataLoader is initialized"):
        loader.batch_size = 3
    with pytest.raises(TypeError, match="multiprocessing_context option should be a valid context object"):
        DataLoader(PAIRS, num_workers=1, multiprocessing_context=3)
    with pytest.raises(AssertionError, match="requires timeout == 0"):
        iter(DataLoader(PAIRS, timeout=3))
    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        pickle.dumps(iter(loader))
    with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator is found"):
        iter(DataLoader(PAIRS, pin_memory=True))
    with pytest.warns(UserWarning, match="This DataLoader will create 5000 worker processes in total"):
        DataLoader(PAIRS, num_workers=5000)
