"""Where the pictures of the examples go; no example itself. They need matplotlib: without it the examples say so and go on."""
import pathlib
import sys

OUT = pathlib.Path(__file__).resolve().parent / "out"
WANTED = "--quick" not in sys.argv


def pyplot():
    """matplotlib's pyplot, drawing into files; None with --quick, and None with a word about it where it is not installed."""
    if not WANTED:
        return None
    try:
        import matplotlib
    except ImportError:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt


def save(figure, name):
    """Write a picture under examples/out/ and say where."""
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / name, dpi=110)
    print(f"Picture: {OUT / name}")
