"""The graph of sin(sum(x) + 2), as autograd recorded it, and that of a small network.

    python examples/graph.py                prints the first graph and writes both under examples/out/, as pictures where Graphviz's
                                            program `dot` is installed (https://graphviz.org), else as its source
    python examples/graph.py --quick        changes nothing: there is little to shorten

In notebooks, `make_dot(y)` as the last line of a cell shows the picture.
"""
import argparse

from pictures import OUT

import engine as torch
from engine import nn
from engine.viz import DotNotFound, make_dot


def write(drawing, name):
    """The picture where that can be, else the source."""
    try:
        print("Picture:", drawing.render(OUT / name, format="svg", cleanup=True))
    except DotNotFound as error:
        print(f"No picture: {error}.")
        print("Source:", drawing.save(OUT / f"{name}.gv"))


def main():
    parser = argparse.ArgumentParser(description="Graphs of what autograd records.")
    parser.add_argument("--quick", action="store_true", help="accepted for the tests")
    parser.parse_args()

    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = torch.sin(torch.sum(x) + 2)
    drawing = make_dot(y, params={"x": x})
    print(drawing.source)
    write(drawing, "graph_of_sin")

    network = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    write(make_dot(network(torch.randn(5, 3)), params=dict(network.named_parameters())), "graph_of_network")


if __name__ == "__main__":
    main()
