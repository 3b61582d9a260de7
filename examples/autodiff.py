"""The computation graph of a small function, gradient by gradient.

    python examples/autodiff.py             (--quick changes nothing: there is little to shorten)

The function is the paraboloid 0.2 x1^2 + 0.2 x2^2 - 5 at (2, 2), built one operation at a time. Every operation leaves a node
that knows its derivative; `backward` walks from the result back to the inputs and multiplies on its way.
"""
import argparse

import engine as torch


def build():
    """The intermediate values by name, with their gradients kept."""
    x1 = torch.tensor(2.0, requires_grad=True)
    x2 = torch.tensor(2.0, requires_grad=True)
    x3 = x1 ** 2
    x5 = x3 * 0.2
    x4 = x2 ** 2
    x6 = x4 * 0.2
    x7 = x5 + x6 - 5
    values = {"x1": x1, "x2": x2, "x3 = x1^2": x3, "x4 = x2^2": x4, "x5 = 0.2 x3": x5, "x6 = 0.2 x4": x6,
              "x7 = x5 + x6 - 5": x7}
    for value in values.values():
        if not value.is_leaf:
            value.retain_grad()         # otherwise only the inputs keep their gradient
    return values


def show_graph(node, indent=0):
    """A node and, below it, where its inputs came from; leaves end in AccumulateGrad, constants have no node."""
    leaf = getattr(node, "variable", None)
    print("    " * indent + node.name() + (f"  (leaf, value {leaf.item():g})" if leaf is not None else ""))
    for following, _ in node.next_functions:
        if following is not None:
            show_graph(following, indent + 1)


def main():
    parser = argparse.ArgumentParser(description="A computation graph, gradient by gradient.")
    parser.add_argument("--quick", action="store_true", help="accepted for the tests")
    parser.parse_args()
    values = build()
    result = values["x7 = x5 + x6 - 5"]

    print("Forward: each value, and the node that will differentiate it")
    for name, value in values.items():
        print(f"  {name:<17} {value.item():>6.2f}   {value.grad_fn.name() if value.grad_fn else 'an input'}")

    print("\nThe graph, from the result to the inputs")
    show_graph(result.grad_fn)

    result.backward()
    print("\nBackward: the derivative of x7 with respect to each value")
    for name, value in values.items():
        print(f"  d x7 / d {name.split()[0]:<8} {value.grad.item():>6.2f}")

    x1 = values["x1"]
    (first,) = torch.autograd.grad(x1 ** 3, x1, create_graph=True)
    (second,) = torch.autograd.grad(first, x1)
    print(f"\nDerivatives are made of operations too: of x1^3 at 2 the first is {first.item():g}, the second {second.item():g}")


if __name__ == "__main__":
    main()
