"""PTX that NVVM made of real kernels: results, coverage, figures, and how many random changes of its lines are noticed."""
from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from ptx_cases import CASES, run

from kernels.cuda import ptx

PROGRAMS = {path.stem: path for path in sorted((Path(__file__).parent / "ptx_programs").glob("*.ptx"))}


@pytest.mark.parametrize("name", PROGRAMS)
def test_results(name):
    """Both generations of NVVM agree with NumPy, all checks pass, and no line is left that never ran."""
    case = CASES[name.rpartition("_")[0]]
    counts, error = run(case, PROGRAMS[name].read_text(encoding="utf-8"))
    assert error <= case.tolerance
    texts = [text for line, text in counts.unexecuted.items()]
    assert len(texts) <= 1, texts       # the loop of a matrix product that has no columns


def test_every_kernel_has_both_generations():
    assert set(PROGRAMS) == {f"{name}_{target}" for name in CASES for target in ("75", "100")}


def test_figures_of_real_kernels():
    counts, _ = run(CASES["saxpy"], PROGRAMS["saxpy_100"].read_text(encoding="utf-8"))
    assert counts.bytes == {"load": 1200, "store": 600, "atomic": 0} and counts.coalescing == 1.0
    assert counts.sectors == {"load": 38, "store": 19, "atomic": 0}
    counts, _ = run(CASES["block_sum"], PROGRAMS["block_sum_75"].read_text(encoding="utf-8"))
    assert counts.bytes["load"] == 600 and counts.bytes["store"] == 12 and counts.bank_conflicts == 0
    counts, _ = run(CASES["histogram"], PROGRAMS["histogram_100"].read_text(encoding="utf-8"))
    assert counts.bytes["atomic"] == 230 * 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", [(7, 5), (9, 0), (10, 0)])
def test_freshly_compiled(target):
    """The same of what the installed compiler makes."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed: the stored PTX was run")
    import ptx_kernels
    for name, case in CASES.items():
        _, error = run(case, ptx_kernels.compiled(name, target))
        assert error <= case.tolerance, name


# --- changes ----------------------------------------------------------------------------------------------------------

WORDS = [("add", "sub"), ("sub", "add"), ("mul", "add"), ("mad.lo", "mad.hi"), (".lt", ".le"), (".le", ".lt"), (".gt", ".ge"),
         (".ge", ".gt"), (".eq", ".ne"), (".ne", ".eq"), ("and", "or"), ("or.", "and."), ("xor", "or"), ("shl", "shr"), ("shr",
             "shl"),
         (".down", ".up"), ("%tid.x", "%ctaid.x"), ("%ctaid.x", "%tid.x"),
         ("%ntid.x", "%nctaid.x"), (".x;", ".y;"), ("neg", "abs"), (".rn.", ".rz."), ("ballot", "any")]


def changed(text: str, rng: np.random.Generator) -> tuple[int, str, str] | None:
    """A random change of one instruction: (line, the new line, the new text), or None where the draw gave none."""
    lines = text.splitlines()
    inside = [k for k, line in enumerate(lines) if re.match(r"\s+(@|[a-z])", line) and line.rstrip().endswith(";")]
    k = int(rng.choice(inside))
    line = lines[k]
    registers = re.findall(r"%[a-z]+\d+", line)
    kind = rng.integers(5)
    if kind == 0:
        if re.match(r"\s*(ret|bra|@)", line):
            return None
        new = ""                                                                # the instruction is gone
    elif kind == 1:
        choices = [line.replace(old, by, 1) for old, by in WORDS if old in line]
        new = str(rng.choice(choices)) if choices else line                     # it does something else
    elif kind == 2 and len(registers) > 1:
        register = str(rng.choice(registers[1:]))
        others = sorted({r for r in re.findall(r"%[a-z]+\d+", text) if r.rstrip("0123456789") == register.rstrip("0123456789")})
        start = line.rfind(register)
        new = line[:start] + str(rng.choice(others)) + line[start + len(register):]     # it reads another register
    elif kind == 3:
        numbers = list(re.finditer(r"(?<=[ \t+])-?\d+(?=[;\],}])", line))
        if not numbers:
            return None
        number = numbers[int(rng.integers(len(numbers)))]
        value = int(number.group(0)) + int(rng.choice([-1, 1, 4, -4]))
        new = line[:number.start()] + str(value) + line[number.end():]          # a number is another
    else:
        new = re.sub(r"@(!?)%p", lambda m: "@%p" if m.group(1) else "@!%p", line)       # a condition is the opposite
    if new == line:
        return None
    return k + 1, new.strip(), "\n".join([*lines[:k], new, *lines[k + 1:]]) + "\n"


def test_changes_of_lines_are_noticed(capsys):
    """Found by a wrong result or a check. Most of the rest are no changes for these arguments: the sign of sizes that are small,
    an operand that has the same value, a barrier of another number."""
    rng = np.random.default_rng(1)
    found: dict[str, int] = {}
    missed = []
    for name, path in PROGRAMS.items():
        case, text = CASES[name.rpartition("_")[0]], path.read_text(encoding="utf-8")
        tried = 0
        while tried < 12:
            draw = changed(text, rng)
            if draw is None:
                continue
            line, new, mutant = draw
            try:
                _, error = run(case, mutant, limit=20_000, count=False)
                how = "wrong result" if error > max(case.tolerance, 1e-7) else None
            except (ptx.SyntaxFault, ptx.UnsupportedInstruction):
                continue            # no PTX at all
            except ptx.PtxError as fault:
                how = type(fault).__name__
            tried += 1
            if how is None:
                missed.append(f"{name}: {text.splitlines()[line - 1].strip()} -> {new or 'gone'}")
            else:
                found[how] = found.get(how, 0) + 1
    total = sum(found.values()) + len(missed)
    with capsys.disabled():
        print(f"\n{total - len(missed)} of {total} changes noticed ({', '.join(f'{v} {k}' for k, v in sorted(found.items()))})")
    assert len(missed) <= 0.25 * total, "\n".join(missed)
