"""Containers of modules and parameters: as lists and dictionaries, printed, and their refusals."""
from collections import OrderedDict

import pytest

import engine
from engine import nn


class Add(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        return x * 10 + self.number

    def extra_repr(self):
        return str(self.number)


def row(*numbers):
    return nn.Sequential(*map(Add, numbers))


def numbers(container):
    return [m.number for m in container]


def test_sequential_calls_in_turn():
    assert row(1, 2, 3)(0) == 123 and nn.Sequential()(5) == 5
    named = nn.Sequential(OrderedDict(first=Add(1), second=Add(2)))
    assert named(0) == 12 and named.second is named[1] and repr(named) == "Sequential(\n  (first): Add(1)\n  (second): Add(2)\n)"
    assert list(named[1:]._modules) == ["second"] and "0" not in dir(row(1)) and repr(nn.Sequential()) == "Sequential()"


def test_sequential_as_a_list():
    s = row(1, 2, 3)
    assert len(s) == 3 and numbers(s[1:]) == [2, 3] and numbers(s[::2]) == [1, 3] and s[-1].number == 3
    s[0] = Add(7)
    assert numbers(s) == [7, 2, 3] and s.pop(1).number == 2 and numbers(s) == [7, 3] and list(s._modules) == ["0", "1"]
    assert s.append(Add(4)) is s and s.extend([Add(5), Add(6)]) is s and numbers(s) == [7, 3, 4, 5, 6]
    del s[1:3]
    assert numbers(s) == [7, 5, 6] and list(s._modules) == ["0", "1", "2"]
    assert numbers(s.insert(1, Add(0))) == [7, 0, 5, 6] and numbers(s.insert(-1, Add(9))) == [7, 0, 5, 9, 6]
    assert numbers(s.pop(slice(0, 2))) == [7, 0] and numbers(s) == [5, 9, 6]
    assert numbers(row(1) + row(2)) == [1, 2] and numbers(row(1, 2) * 2) == numbers(2 * row(1, 2)) == [1, 2, 1, 2]
    t = row(1)
    first = t
    t += row(2)
    t *= 2
    assert t is first and numbers(t) == [1, 2, 1, 2] and t[0] is t[2]


def test_module_list():
    m = nn.ModuleList([Add(1), Add(1), Add(2)])
    assert repr(m) == "ModuleList(\n  (0-1): 2 x Add(1)\n  (2): Add(2)\n)" and repr(nn.ModuleList()) == "ModuleList()"
    assert numbers(m[::-1]) == [2, 1, 1] and type(m[:1]) is nn.ModuleList and numbers(m + nn.ModuleList([Add(5)])) == [1, 1, 2, 5]
    m.insert(1, Add(8))
    m += [Add(3)]
    assert numbers(m.append(Add(4))) == [1, 8, 1, 2, 3, 4] and m.pop(-1).number == 4 and m[-1].number == 3
    m[1] = Add(0)
    del m[0]
    assert numbers(m) == [0, 1, 2, 3] and len(m) == 4 and [n for n, _ in m.named_children()] == ["0", "1", "2", "3"]
    del m[::2]
    assert numbers(m) == [1, 3]
    inner = nn.ModuleList([row(1), row(1)])
    assert repr(inner) == "ModuleList(\n  (0-1): 2 x Sequential(\n    (0): Add(1)\n  )\n)"


def test_module_dict():
    d = nn.ModuleDict({"a": Add(1), "b": Add(2)})
    assert repr(d) == "ModuleDict(\n  (a): Add(1)\n  (b): Add(2)\n)" and list(d) == list(d.keys()) == ["a", "b"] and "a" in d
    d["c"] = Add(3)
    d.update([["d", Add(4)]])
    d.update(nn.ModuleDict({"e": Add(5)}))
    assert numbers(d.values()) == [1, 2, 3, 4, 5] and dict(d.items())["e"].number == 5 and d.pop("a").number == 1 and len(d) == 4
    del d["b"]
    assert list(d) == ["c", "d", "e"]
    d.clear()
    assert len(d) == 0


def test_parameter_list():
    p = nn.ParameterList([engine.ones(2, 3), nn.Parameter(engine.ones(2)), 3])
    assert all(type(v) is nn.Parameter for v in p[:2]) and p[2] == 3 and list(p.state_dict()) == ["0", "1"]
    assert repr(p) == ("ParameterList(\n    (0): Parameter containing: [engine.float32 of size 2x3]\n"
                       "    (1): Parameter containing: [engine.float32 of size 2]\n    (2): Object of type: int\n)")
    p[0] = engine.zeros(1)
    p += [engine.ones(1)]
    assert type(p[0]) is nn.Parameter and len(p.append(4)) == 5 and p[-1] == 4 and len(list(p.parameters())) == 3
    assert len(p[1:]) == 4 and type(p[1:]) is nn.ParameterList and [type(v).__name__ for v in p][-2:] == ["Parameter", "int"]
    assert "0" not in dir(p)


def test_parameter_dict():
    d = nn.ParameterDict({"b": engine.ones(2), "a": 3})
    assert list(d) == ["a", "b"] and type(d["b"]) is nn.Parameter and list(d.state_dict()) == ["b"]     # keys of a dict are sorted
    assert repr(d) == ("ParameterDict(\n    (a): Object of type: int\n"
                       "    (b): Parameter containing: [engine.FloatTensor of size 2]\n)")
    assert list(nn.ParameterDict(OrderedDict(b=1, a=2))) == list(nn.ParameterDict([("b", 1), ("a", 2)])) == ["b", "a"]
    assert list(reversed(d)) == ["b", "a"] and d.get("z", 5) == 5 and d.setdefault("q", 6) == 6 and d.setdefault("q") == 6
    assert d.popitem() == ("q", 6) and d.pop("a") == 3 and list(d.keys()) == ["b"] and len(d.copy()) == 1
    merged = d | nn.ParameterDict({"c": 1})
    assert list(merged) == ["b", "c"] and merged["b"] is d["b"]
    d |= {"x": 1}
    assert [k for k, _ in d.items()] == ["b", "x"] and list(d.values())[1] == 1
    assert list(d.fromkeys(["u", "v"], 2).values()) == [2, 2]
    d.clear()
    assert len(d) == 0 and "b" not in d


@pytest.mark.parametrize("make, error, words", [
    (lambda: row(1)[1], IndexError, "index 1 is out of range"),
    (lambda: row(1)["a"], TypeError, "cannot be interpreted as an integer"),
    (lambda: nn.Sequential(3), TypeError, "int is not a Module subclass"),
    (lambda: row(1) * 0, ValueError, "Non-positive multiplication factor 0 for"),
    (lambda: row(1) * "a", TypeError, r"unsupported operand type\(s\) for \*"),
    (lambda: row(1) + 3, ValueError, "add operator supports only objects of Sequential class"),
    (lambda: row(1).insert(5, Add(1)), IndexError, "Index out of range: 5"),
    (lambda: row(1).insert(0, 3), AssertionError, "module should be of type"),
    (lambda: nn.ModuleList(3), TypeError, "ModuleList.extend should be called with an iterable, but got int"),
    (lambda: nn.ModuleList()(1), NotImplementedError, r'Module \[ModuleList\] is missing the required "forward" function'),
    (lambda: nn.ModuleDict(3), TypeError, "ModuleDict.update should be called with an iterable of key/value pairs, but got int"),
    (lambda: nn.ModuleDict([3]), TypeError, "ModuleDict update sequence element #0 should be Iterable; isint"),
    (lambda: nn.ModuleDict([["a"]]), ValueError, "ModuleDict update sequence element #0 has length 1; 2 is required"),
    (lambda: nn.ModuleDict({"keys": Add(1)}), KeyError, "attribute 'keys' already exists"),
    (lambda: nn.ModuleDict()["a"], KeyError, "a"),
    (lambda: nn.ParameterList(engine.ones(1)), TypeError, "ParameterList.extend should be called with an iterable, but got Tensor"),
    (lambda: nn.ParameterList()(1), RuntimeError, "ParameterList should not be called."),
    (lambda: nn.ParameterList([1])[3], IndexError, "index 3 is out of range"),
    (lambda: nn.ParameterDict({"a": 1})(1), RuntimeError, "ParameterDict should not be called."),
    (lambda: nn.ParameterDict([[1, 2]]), TypeError, "cannot be used as a key as it is not a string"),
    (lambda: nn.ParameterDict(3), TypeError, "ParametersDict.update should be called with an iterable"),
    (lambda: nn.ParameterDict().popitem(), KeyError, "dictionary is empty"),
])
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()
