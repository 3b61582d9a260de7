"""The examples and README's own example, each run as a newcomer would, in a process of its own."""
import pathlib
import re
import subprocess
import sys

import pytest

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
    assert [line.split(":")[0] for line in ends] == ["Gradient descent", "L-BFGS"]
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
