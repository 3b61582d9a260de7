"""engine.viz: the DOT source of graphs, parsed and compared with the graphs they stand for."""
from __future__ import annotations

import itertools
import pathlib
import re
import stat
import sys
from collections import Counter

import pytest

import engine
from engine import nn, viz


def parsed(drawing: viz.Drawing) -> tuple[dict[str, dict], list[tuple[str, str, dict]]]:
    """{node: attributes} and [(tail, head, attributes)] of a drawing's source; every line must be understood."""
    lines = drawing.source.splitlines()
    assert lines[0] == "digraph {" and lines[-1] == "}" and lines[1].startswith('\tgraph [size="')
    assert lines[2].startswith("\tnode [") and 'shape="box"' in lines[2] and 'style="filled"' in lines[2]
    nodes, edges = {}, []
    for line in lines[3:-1]:
        match = re.fullmatch(r'\t(\w+)(?: -> (\w+))?(?: \[((?:\w+="(?:[^"\\]|\\.)*" ?)+)\])?', line)
        assert match, line
        pairs = {k: v.replace("\\n", "\n").replace('\\"', '"') for k, v in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[3] or "")}
        if match[2]:
            edges.append((match[1], match[2], pairs))
        else:
            nodes.setdefault(match[1], {}).update(pairs)
    assert {name for tail, head, _ in edges for name in (tail, head)} <= set(nodes)
    return nodes, edges


def labelled(drawing: viz.Drawing) -> tuple[Counter, Counter]:
    """Labels with colours, and edges by the labels of their ends, how often each."""
    nodes, edges = parsed(drawing)
    return (Counter((v["label"], v.get("fillcolor")) for v in nodes.values()),
            Counter((nodes[a]["label"], nodes[b]["label"], about.get("style", about.get("dir"))) for a, b, about in edges))


def test_the_documents_graph():
    x = engine.ones(3, requires_grad=True)
    nodes, edges = labelled(viz.make_dot(engine.sin(x.sum() + 2), params={"x": x}))
    assert nodes == Counter([("\n ()", "darkolivegreen1"), ("SinBackward0", None), ("AddBackward0", None), ("SumBackward0", None),
                             ("AccumulateGrad", None), ("x\n (3)", "lightblue")])
    chain = ["x\n (3)", "AccumulateGrad", "SumBackward0", "AddBackward0", "SinBackward0", "\n ()"]
    assert edges == Counter((a, b, None) for a, b in itertools.pairwise(chain))


def test_shared_nodes_are_drawn_once():
    x = engine.ones(2, 3, requires_grad=True)
    a = x.exp()
    nodes, edges = labelled(viz.make_dot(a * a + a))
    assert nodes["ExpBackward0", None] == 1 == nodes["\n (2, 3)", "lightblue"]
    assert edges["ExpBackward0", "MulBackward0", None] == 2 and edges["ExpBackward0", "AddBackward0", None] == 1
    drawing = viz.make_dot(a * a + a)
    assert drawing.source == viz.make_dot(a * a + a).source == str(drawing)      # names do not depend on addresses


def test_modules_outputs_and_views():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    out = net(engine.ones(2, 3))
    nodes, _ = labelled(viz.make_dot(out, params=net.named_parameters()))
    assert {label for label, colour in nodes if colour == "lightblue"} == {"0.weight\n (4, 3)", "0.bias\n (4)", "2.weight\n (1, 4)",
                                                                           "2.bias\n (1)"}
    x = engine.ones(3, requires_grad=True)
    base = x * 2
    part = base[1:]
    nodes, edges = labelled(viz.make_dot((part, x)))
    assert nodes["\n (2)", "darkolivegreen1"] == 1 and nodes["\n (3)", "darkolivegreen3"] == 1 and nodes["\n (3)", "lightblue"] == 1
    assert edges["\n (3)", "\n (2)", "dotted"] == 1 and edges["SliceBackward0", "\n (2)", None] == 1
    for outputs in ([part, x.sin()], {"a": part, "b": (x.sin(),)}):
        nodes, _ = labelled(viz.make_dot(outputs))
        assert nodes["SinBackward0", None] == nodes["MulBackward0", None] == nodes["AccumulateGrad", None] == 1
    assert labelled(viz.make_dot(engine.ones(2))) == (Counter([("\n (2)", "darkolivegreen1")]), Counter())


def test_attributes_and_saved_tensors():
    x = engine.ones(3, requires_grad=True)
    y = (x.exp() * x).sum(0, keepdim=True)
    drawing = viz.make_dot(y, params={"x": x}, show_attrs=True, show_saved=True)
    nodes, edges = parsed(drawing)
    labels = {v["label"] for v in nodes.values()}
    total = next(label for label in labels if label.startswith("SumBackward"))
    assert re.search(r"-{10,}\n(.*\n)*dims *: +\(0,\)\nkeepdim *: +True", total)
    assert any(re.fullmatch(r"ExpBackward0\n-+\nresult: \[saved tensor\]", label) for label in labels)
    saved = [nodes[b]["label"].split("\n")[0] for a, b, about in edges if about.get("dir") == "none"]
    assert sorted(saved) == ["result", "x", "x"]
    assert Counter(v.get("fillcolor") for v in nodes.values())["orange"] == 2       # exp(x), kept by exp and by mul; x is blue
    y.sum().backward()
    nodes, _ = labelled(viz.make_dot(y, show_saved=True, show_attrs=True))
    assert not any(colour == "orange" for _, colour in nodes)                          # they are freed
    long = viz.make_dot(engine.ones(2, 3, 4, 5, 6, requires_grad=True).sum(), show_attrs=True, max_attr_chars=8).source
    assert "(2, 3..." in long


def test_custom_functions_show_what_they_saved():
    class Square(engine.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

    x = engine.ones(2, requires_grad=True)
    nodes, edges = labelled(viz.make_dot(Square.apply(x.sin())))
    assert nodes["SquareBackward", None] == 1 and nodes["\n (2)", "orange"] == 1
    assert edges["\n (2)", "SquareBackward", "none"] == 1


def test_deep_graphs():
    x = engine.ones(1, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y + 1
    nodes, edges = parsed(viz.make_dot(y))
    assert len(nodes) == 5003 and len(edges) == 5002
    size = float(re.search(r'size="([\d.]+),', viz.make_dot(y).source)[1])
    assert size == pytest.approx(0.15 * (5003 + 5002))


def test_names_are_quoted():
    x = engine.ones(1, requires_grad=True)
    nodes, _ = parsed(viz.make_dot(x * 2, params={'a "b" \\ <c>': x}))
    assert any(v["label"].startswith('a "b" ') and v["label"].endswith("<c>\n (1)") for v in nodes.values())


def test_compiled_programs():
    graph = engine.compile(lambda x, w: {"a": engine.sin(x.sum() + 2) * w.t()}).graph(engine.ones(3), engine.ones(2, 4))
    drawing = viz.make_dot(graph)
    nodes, edges = parsed(drawing)
    assert drawing.source == graph.dot().source == viz.draw_graph(graph).source
    assert nodes["in0"]["label"] == "in0\n float32 (3)" and nodes["in0"]["fillcolor"] == "lightblue"
    assert nodes["result0"]["label"] == "result 0\n float32 (4, 2)" and nodes["result0"]["fillcolor"] == "darkolivegreen1"
    inside = [name for name in nodes if name.startswith("node")]
    assert len(inside) == len(graph.nodes) and any(nodes[n]["label"].startswith("sum, dims=(0,)") for n in inside)
    assert any("sin(x0)" in nodes[n]["label"] for n in inside)
    assert ("in0", next(n for n in inside if nodes[n]["label"].startswith("sum")), {}) in edges
    assert any(a == "in1" and about.get("label") == "(4, 2)" for a, _, about in edges)      # read through a view

    def step(x, state):
        state.add_(x)
        return x if x.sum() > 0 else -x

    graph = engine.compile(step).graph(engine.ones(2), engine.zeros(2))
    nodes, edges = parsed(graph.dot())
    assert any(about == {"style": "dotted", "label": "written"} and head == "in1" for _, head, about in edges)
    assert [v["shape"] for v in nodes.values() if v["label"].startswith("guard")] == ["diamond"]


def test_files_without_graphviz(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    drawing = viz.make_dot(engine.ones(1, requires_grad=True) * 2)
    assert drawing._repr_svg_() is None
    for call in (drawing.pipe, drawing.view, lambda: drawing.render(tmp_path / "g")):
        with pytest.raises(viz.DotNotFound, match=r"needs Graphviz, whose program 'dot' was not found: install it.*graphviz.org"):
            call()
    path = drawing.save("graph.gv", tmp_path / "new")
    assert pathlib.Path(path).read_text() == drawing.source and list((tmp_path / "new").iterdir()) == [pathlib.Path(path)]
    assert "a graph of autograd" in repr(drawing)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dot is a shell script")
def test_rendering_calls_dot(tmp_path, monkeypatch):
    """A stand-in for Graphviz writes its argument and what it was given."""
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nif [ "$1" = "-Tbad" ]; then echo "no such format" >&2; exit 1; fi\n'
                       'printf "%s\\n" "$1"\n/bin/cat\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", opened := [].append)
    drawing = viz.make_dot(engine.ones(1, requires_grad=True) * 2)
    assert drawing._repr_svg_() == "-Tsvg\n" + drawing.source
    path = drawing.render(tmp_path / "g", format="png")
    assert path == str(tmp_path / "g.png") and pathlib.Path(path).read_text() == "-Tpng\n" + drawing.source
    assert (tmp_path / "g").read_text() == drawing.source
    drawing.format = "svg"
    assert drawing.render("h", tmp_path, cleanup=True) == str(tmp_path / "h.svg") and not (tmp_path / "h").exists()
    assert drawing.view(tmp_path / "v") == str(tmp_path / "v.svg")
    assert opened.__self__ == [f"file://{tmp_path / 'v.svg'}"]
    with pytest.raises(RuntimeError, match="dot failed: no such format"):
        drawing.pipe("bad")


def test_errors():
    for wrong, words in ((3, "got int"), ([], "got nothing"), ({"a": engine.ones(1), "b": "x"}, "got str")):
        with pytest.raises(TypeError, match=f"make_dot draws the graph of a tensor.*{words}"):
            viz.make_dot(wrong)
    with pytest.raises(TypeError, match="params must be tensors, 'w' is int"):
        viz.make_dot(engine.ones(1), params={"w": 3})
