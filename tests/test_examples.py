"""The examples and README's own example, each run as a newcomer would, in a process of its own."""
import importlib.util
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from cuda_checks import needs_numba_cuda

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rosenbrock_prints_both_logs():
    lines = run("examples/rosenbrock.py", "--quick").splitlines()
    at = lines.index("Iteration: 100")
    assert float(lines[at + 1].removeprefix("Value is : ")) == pytest.approx(0.3502924, rel=2e-4)
    slope = [float(word) for word in lines[at + 2].removeprefix("Gradient is : ").split()]
    assert slope == pytest.approx([-0.667685, -0.5771312], rel=2e-4)
    values = [float(line.removeprefix("Value is: ")) for line in lines if line.startswith("Value is: ")]
    assert len(values) == 23 and values[:3] == pytest.approx([4, 6, 3.802412], rel=1e-5) and values[-1] < 1e-10
    ends = [line for line in lines if ": ended at (" in line]
    assert [line.split(":")[0] for line in ends] == ["Gradient descent", "L-BFGS", "Native L-BFGS"]
    assert re.search(r"after 100 evaluations in \d+\.\d ms", ends[0])
    x1, x2 = map(float, re.search(r"ended at \((.*), (.*)\)", ends[1]).groups())
    assert (x1, x2) == pytest.approx((1, 1), abs=1e-4)


def test_the_picture_needs_matplotlib_and_says_so(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    code = ("import sys, pathlib; sys.path[:0] = [sys.argv[1], 'examples']; import rosenbrock; "
            "rosenbrock.draw([(0, 0)], [(0, 0)], pathlib.Path(sys.argv[1]) / 'out' / 'picture.png')")
    assert run("-c", code, str(tmp_path)) == "No picture: matplotlib is not installed (pip install matplotlib).\n"
    assert not (tmp_path / "out").exists()


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, an extra (plot)")
    code = ("import sys, pathlib; sys.path.insert(0, 'examples'); import rosenbrock; "
            "rosenbrock.draw([(-1, 1), (0, 0)], [(-1, 1), (1, 1)], pathlib.Path(sys.argv[1]) / 'out' / 'picture.png')")
    assert "Picture: " in run("-c", code, str(tmp_path))
    assert (tmp_path / "out" / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_autodiff_shows_the_graph_gradient_by_gradient():
    text = run("examples/autodiff.py", "--quick")
    assert text.splitlines()[1].split() == ["x1", "2.00", "an", "input"]
    lines = text.splitlines()
    at = lines.index("SubBackward0")
    assert [line.split()[0] for line in lines[at:at + 8]] == [
        "SubBackward0", "AddBackward0", *["MulBackward0", "PowBackward0", "AccumulateGrad"] * 2]
    gradients = dict(re.findall(r"d x7 / d (x\d) +(-?\d+\.\d+)", text))
    assert gradients == {"x1": "0.80", "x2": "0.80", "x3": "0.20", "x4": "0.20", "x5": "1.00", "x6": "1.00", "x7": "1.00"}
    assert "the first is 12, the second 12" in text


def test_the_example_of_the_readme_prints_what_it_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()
    assert len(code.strip().splitlines()) <= 10
    assert run("-c", code) == output


# --- the other examples: what each prints with --quick ----------------------------------------------------------------

def numbers(pattern: str, text: str) -> list[float]:
    """What the groups of a pattern catch, as floats, in order of appearance."""
    return [float(word) for found in re.finditer(pattern, text) for word in found.groups()]


def check_network(text):
    losses = numbers(r"Epoch: +(?:10|20)    Loss: (\S+)", text)
    assert len(losses) == 4 and losses[1] < losses[0] and losses[3] < losses[2] < losses[1]
    assert "The loop by hand and fit gave the same losses: True" in text


def check_paraboloids(text):
    assert re.search(r"SGD, rate 2.5 +at the minimum after 1 step\n", text)
    assert re.search(r"SGD, rate 0.5 +after 20 steps at \(0.0692, 6\)", text)             # 6 * 0.8^20, and x2 swings between +-6
    assert abs(numbers(r"SGD, rate 0.51 +after 20 steps at \(\S+ (\S+)\)", text)[0] - 6 * 1.04 ** 20) < 0.1
    quick = numbers(r"(?:Adagrad|RMSProp|Adam), rate \S+ .*at the minimum after (\d+) steps", text)
    assert quick == [6, 4, 4]


def check_optimizers(text):
    ends = dict(re.findall(r"(\w+) +rate \S+: from 5725 to (\S+) at", text))
    assert list(ends) == ["SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW"]
    assert all(float(value) < 5725 for value in ends.values()) and float(ends["SGD"]) < 1e-15


def check_activations(text):
    rows = re.findall(r"^(.{20})((?: +-?\d\.\d{4}){4})$", text, re.M)
    rows = {name.strip(): [float(word) for word in rest.split()] for name, rest in rows}
    assert len(rows) == 27 and rows["relu"][2:] == [1.5, 1] == rows["hardshrink"][2:]     # log_softmax has wider numbers
    assert rows["tanh"] == pytest.approx([f(x) for x in (-2, 1.5) for f in (math.tanh, lambda x: 1 - math.tanh(x) ** 2)], abs=6e-5)
    assert rows["silu"][0] == pytest.approx(-2 / (1 + math.exp(2)), abs=6e-5)


def check_digits(text):
    if digits_missing(text):
        return
    losses = numbers(r"Loss_Train: (\S+)  Loss_Test: (\S+)", text)
    assert "1437 images to learn from, 360 held out" in text and "(fc2): Linear(in_features=128, out_features=64" in text
    assert len(losses) == 4 and losses[2] < losses[0]
    assert 10 < numbers(r"Accuracy on held-out digits: (\S+) %", text)[0] <= 100


def check_convolution(text):
    if digits_missing(text):
        return
    assert numbers(r"Held-out digits: (\S+) % of 360", text)[0] > 90
    assert len(re.findall(r"Epoch \d/2: loss \S+, accuracy \S+, valid_loss \S+, valid_accuracy \S+", text)) == 2


def digits_missing(text) -> bool:
    """Whether an example had no digits; only where scikit-learn is missing."""
    missing = "pip install scikit-learn" in text
    assert missing == (importlib.util.find_spec("sklearn") is None)
    return missing


def check_sine(text):
    losses = numbers(r"Step +\d+: loss (\S+)", text)
    assert len(losses) == 10 and losses[-1] < 0.5 * losses[0]
    assert numbers(r"by itself: largest error (\S+), mean", text)[0] < 2.5


def check_graph(text):
    assert re.findall(r'label="(\w+Backward0|AccumulateGrad)"', text) == [
        "SinBackward0", "AddBackward0", "SumBackward0", "AccumulateGrad"]
    assert len(re.findall(r"^(?:Picture|Source): .*graph_of_(?:sin|network)", text, re.M)) == 2


def check_compiled_step(text):
    pairs = re.findall(r"^    (\d\.\d{6})  (\d\.\d{6})$", text, re.M)
    assert len(pairs) == 4 and all(abs(float(a) - float(b)) < 1e-5 for a, b in pairs)
    assert numbers(r"after 11 steps: (\S+)", text)[0] < 1e-5
    assert "def program_" in text and "hits=" in text


def check_robot_arm(text):
    assert len(distances := numbers(r"largest distance (\S+)", text)) == 2 and max(distances) < 1e-10
    assert numbers(r"central differences: (\S+)", text)[0] < 1e-8
    values = numbers(r"squared distance: \[(\S+), (\S+), (\S+)\]", text)
    assert abs(values[0]) < 1e-5 < 0.1 < values[1] < values[2]


def check_branches(text):
    slopes = numbers(r"x +\S+: (\S+), slope +(\S+) ", text)
    assert slopes == pytest.approx([0.125, 0.5, 2.5, 1, 1.5, -1, 0.0312, -0.25])
    assert numbers(r"norm at least +\d+: \[.*\], slope (\S+)", text) == [1024, 8, 1024]
    assert "hits=2, misses=2" in text and "hits=1, misses=2" in text
    for found, exact in zip(*[iter(numbers(r"= \S+, slope (\S+), exact (\S+)", text))] * 2, strict=True):
        assert found == pytest.approx(exact, rel=1e-11)


def check_isotherm(text):
    found = numbers(r"    [ab] = (\S+) \+- (\S+), true (\S+)\n", text)
    assert len(found) == 6 and all(abs(x - true) < 4 * error for x, error, true in (found[:3], found[3:]))
    assert 0.2 < numbers(r"Root mean square left: (\S+) bar", text)[0] < 0.4
    assert numbers(r"Coexistence at 280 K: \S+ bar, slopes in the volume \[(\S+), (\S+)\]", text) == [0, 0]


def check_kepler(text):
    assert numbers(r"is left with (\S+) at most", text)[0] < 1e-14
    differences = numbers(r"theorem differ by (\S+) of it at most", text)
    assert len(differences) == 2 and max(differences) < 1e-9


def check_heat(text):
    before, after = numbers(r"(?:measured|recovered) +(\S+) % away", text)
    assert after < 0.7 * before and numbers(r"what was measured by (\S+)", text)[0] < 0.005
    assert numbers(r"slices in NumPy by (\S+)", text)[0] < 1e-6


def check_mandelbrot(text):
    assert abs(numbers(r"an area of about (\S+) ", text)[0] - 1.5066) < 0.05
    assert numbers(r"by hand differ by (\S+) of it", text)[0] < 1e-10


def check_gpu(text):
    first, last = numbers(r"step +\d+: loss (\S+)", text)
    assert last < 0.5 * first
    rate, frequency = numbers(r"rate and frequency \[(\S+), (\S+)\]", text)
    assert 0.3 < rate < 0.5 and 3.7 < frequency < 4.0


CHECKS = {"network": check_network, "paraboloids": check_paraboloids, "optimizers": check_optimizers,
          "activations": check_activations, "digits": check_digits, "convolution": check_convolution, "sine": check_sine,
          "graph": check_graph, "compiled_step": check_compiled_step, "robot_arm": check_robot_arm, "branches": check_branches,
          "isotherm": check_isotherm, "kepler": check_kepler, "heat": check_heat, "mandelbrot": check_mandelbrot, "gpu": check_gpu}


@pytest.mark.parametrize("name", CHECKS)
def test_example(name):
    CHECKS[name](run(f"examples/{name}.py", "--quick"))


@needs_numba_cuda
def test_the_gpu_example_on_an_emulated_device(monkeypatch):
    here = run("examples/gpu.py", "--quick")
    monkeypatch.setenv("ENGINE_CUDA", "emulate")
    there = run("examples/gpu.py", "--quick")
    assert "emulated device" in there and re.search(r"held by tensors: \S+ bytes", there)
    check_gpu(there)
    for pattern in (r"step +\d+: loss (\S+)", r"rate and frequency \[(\S+), (\S+)\]"):
        assert numbers(pattern, there) == pytest.approx(numbers(pattern, here), abs=2e-3)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.py")), ids=lambda file: file.stem)
def test_every_example_begins_by_saying_how_to_run_it(file):
    text = file.read_text(encoding="utf-8")
    if "def main():" not in text:
        assert "no example itself" in text.splitlines()[0]
        return
    head = text.split('"""')[1]
    assert f"python examples/{file.name}" in head and "--quick" in head
    if "pyplot()" in text:
        assert "needs matplotlib" in head or "matplotlib for the picture" in head


DRAW = """
import io, pathlib, runpy, sys, contextlib
folder, missing, *names = sys.argv[1:]
sys.path.insert(0, "examples")
for name in missing.split(","):
    sys.modules[name] = None
import pictures
pictures.OUT, pictures.WANTED = pathlib.Path(folder), True
for name in names:
    sys.argv = [name, "--quick"]
    runpy.run_path(f"examples/{name}.py", run_name="__main__")
"""


def test_the_other_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, an extra (plot)")
    pytest.importorskip("sklearn", reason="some pictures are of scikit-learn's digits")
    names = [name for name in CHECKS if "pyplot()" in (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")]
    run("-c", DRAW, str(tmp_path), "none", *names)
    drawn = {file.stem: file.read_bytes()[:8] for file in tmp_path.glob("*.png")}
    assert set(drawn) == {*names, "convolution_hardest"} and set(drawn.values()) == {b"\x89PNG\r\n\x1a\n"}


def test_examples_say_what_they_miss(tmp_path):
    text = run("-c", DRAW, str(tmp_path), "matplotlib,sklearn,sklearn.datasets", "paraboloids", "digits", "convolution")
    assert text.count("No picture: matplotlib is not installed (pip install matplotlib).") == 1
    assert text.count("pip install scikit-learn") == 2 and not list(tmp_path.iterdir())


def test_digits_reads_mnist_from_a_folder(tmp_path):
    """60 images of 28 x 28 in the published format, all of a class as dark as its number."""
    def write(name, array):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / name).write_bytes(head + array.astype("uint8").tobytes())
    for part, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count) % 10
        write(f"{part}-labels-idx1-ubyte", labels)
        write(f"{part}-images-idx3-ubyte", np.broadcast_to(25 * labels[:, None, None], (count, 28, 28)))
    text = run("examples/digits.py", "--quick", "--data", str(tmp_path))
    assert "MNIST: 40 images to learn from, 20 held out" in text and "(fc1): Linear(in_features=784, out_features=1024" in text
    assert "Dataset not found" in run("examples/digits.py", "--quick", "--data", str(tmp_path / "nowhere"))
