"""What is printed and written: header, tables, listing, summary and the JSON file.

No measuring here: figures come as `harness.Result`, called by `perf/__main__.py` alone.
"""
import json
import os
import platform
import statistics
import subprocess
import sys
from typing import Any

from perf.harness import PAUSE, Case, Effort, Group, Result, spread
from perf.libraries import Library, version_of

NAME, TIME, RATIO, WARM = 32, 9, 20, 13
BUSY = 0.15  # cores that others may use before a line says so


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "darwin":
        try:
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts(shelf: dict[str, Library | str], effort: Effort) -> dict[str, Any]:
    """Everything a reader needs beside the figures: versions, machine, threads, effort."""
    libraries = {name: library if isinstance(library, str) else {"version": library.version, "threads": library.threads}
                 for name, library in shelf.items()}
    return {
        "python": platform.python_version(), "system": platform.platform(), "cpu": cpu_model(), "cores": cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None, "numba": version_of("numba"),
        "llvmlite": version_of("llvmlite"), "libraries": libraries, "rounds": effort.rounds,
        "process_rounds": effort.process_rounds, "seconds_per_sample": effort.sample, "pause": PAUSE,
    }


def header(seen: dict[str, Any]) -> str:
    """The lines above the tables."""
    load = "" if seen["load"] is None else f", load {seen['load']:.1f}"
    lines = [f"python {seen['python']}, numba {seen['numba'] or '-'}, llvmlite {seen['llvmlite'] or '-'}",
             f"{seen['system']}, {seen['cpu']}, {seen['cores']} cores{load}"]
    for name, about in seen["libraries"].items():
        text = about if isinstance(about, str) else f"{about['version']}, threads {about['threads']}"
        lines.append(f"  {name:10}{text}")
    lines.append(f"{seen['rounds']} rounds ({seen['process_rounds']} of whole processes), libraries in turn. "
                 "Times are medians; a ratio is the median\nof engine / peer over the rounds, with its quartiles. "
                 "Below 1 the engine is faster.")
    return "\n".join(lines)


def unit(seconds: float | None) -> str:
    """Seconds as a short text, a dash for None."""
    if seconds is None:
        return "-"
    for scale, word in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {word}" if seconds < 1000 * scale else f"{seconds / scale:.0f} {word}"
    return f"{seconds * 1e9:.0f} ns"


def short(ratio: float) -> str:
    """A ratio with two decimals, fewer when it is large."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def bar_text(case: Case) -> str:
    """The bar as it is printed: `1.0 torch`, `5 s`, `1.5`."""
    if case.bar is None:
        return "-"
    unit_of_own = "" if case.kind == "value" else " s"
    return ", ".join(f"{bar:g} {against}" if against else f"{bar:g}{unit_of_own}" for bar, against in case.bars())


def group_head(group: Group, shelf: dict[str, Library | str], verbose: bool) -> str:
    """A group's question and the names of the columns."""
    cells = [f"{name:>{TIME}}" for name in shelf]
    if group.cases[0].kind != "value":
        cells += [f"{'/' + name:>{RATIO}}" for name in shelf if name != "engine"]
    cells.append(f"  {'bar':18}")
    if verbose:
        cells += [f"{'warm ' + name:>{WARM}}" for name in shelf]
    return f"\n{group.name}: {group.question}\n" + (f"{'':{NAME}}" + "".join(cells)).rstrip()


def row(case: Case, result: Result, shelf: dict[str, Library | str], verbose: bool) -> str:
    """One case: times, ratios with quartiles, bar, verdict; errors and wrong results on lines below."""
    cells = []
    for name in shelf:
        figure = result.median(name)
        text = "error" if name in result.notes and figure is None else unit(figure)
        if case.kind == "value" and figure is not None:
            text = f"{figure:.3g}"
        cells.append(f"{text:>{TIME}}")
    for peer in shelf if case.kind != "value" else ():
        if peer != "engine":
            ratios = result.ratios(peer)
            text = "-"
            if ratios:
                seen = {key: short(value) for key, value in spread(ratios).items()}
                text = f"{seen['median']} ({seen['q1']}-{seen['q3']})"
            cells.append(f"{text:>{RATIO}}")
    mark = {True: "met", False: "NOT MET", None: ""}[result.met]
    cells.append(f"  {bar_text(case):10}{mark:8}")
    if verbose:
        cells += [f"{unit(result.warm_up.get(name)):>{WARM}}" for name in shelf]
    notes = [f"{name}: {note}" for name, note in result.notes.items()]
    if (result.others or 0) > BUSY:
        notes.append(f"busy: other programs used {result.others:.1f} cores meanwhile")
    return "\n    ".join([(f"{case.name:{NAME}}" + "".join(cells)).rstrip(), *notes])


def group_figures(group: Group, results: list[Result]) -> dict[str, Any]:
    """Median over the group's cases of the median ratios to each peer, and the verdict on the group's own bar."""
    medians = {}
    for peer in group.peers:
        ratios = [statistics.median(result.ratios(peer)) for result in results if result.ratios(peer)]
        if ratios:
            medians[peer] = statistics.median(ratios)
    met = None if group.median_bar is None or "torch" not in medians else medians["torch"] <= group.median_bar
    return {"medians": medians, "median_bar": group.median_bar, "met": met}


def group_foot(group: Group, results: list[Result]) -> str:
    """The group's line: median ratios, and how many bars are met."""
    seen = group_figures(group, results)
    judged = [result.met for result in results if result.met is not None]
    parts = [f"{value:.2f} of {peer}" for peer, value in seen["medians"].items() if group.cases[0].kind != "value"]
    text = f"median {', '.join(parts)}" if parts else ""
    if group.median_bar is not None and seen["met"] is not None:
        text += f"; bar {group.median_bar:g} torch {'met' if seen['met'] else 'NOT MET'}"
    count = f"bars met: {sum(judged)} of {len(judged)}" if judged else "no bar judged"
    return "    " + "; ".join(part for part in (text, count) if part)


def summary(measured: list[tuple[Group, list[Result]]]) -> str:
    """The last lines: how many bars are met in all, and the names of those that are not."""
    judged = [(f"{group.name}: {case.name}", result.met) for group, results in measured
              for case, result in zip(group.cases, results, strict=False) if result.met is not None]
    for group, results in measured:
        if (met := group_figures(group, results)["met"]) is not None:
            judged.append((f"{group.name}: median", met))
    if not judged:
        return "\nno bar could be judged: that takes the engine and the peer of the bar"
    missed = [name for name, met in judged if not met]
    busy = sum((result.others or 0) > BUSY for _, results in measured for result in results)
    text = "\n  not met: ".join([f"\n{len(judged) - len(missed)} of {len(judged)} bars met", *missed])
    return text + (f"\n  unsure: in {busy} cases other programs used more than {BUSY:g} cores" if busy else "")


def listing(groups: list[Group]) -> str:
    """Groups, questions, cases and bars, for --list."""
    lines = []
    for group in groups:
        bar = f" (median bar {group.median_bar:g} torch)" if group.median_bar else ""
        lines.append(f"{group.name}: {group.question}{bar}")
        lines += [f"    {case.name:{NAME}}{bar_text(case)}" for case in group.cases]
    return "\n".join(lines)


def write_json(path: str, seen: dict[str, Any], measured: list[tuple[Group, list[Result]]]) -> None:
    """Write facts, every sample, the ratios and the verdicts to a file."""
    groups = []
    for group, results in measured:
        cases = []
        for case, result in zip(group.cases, results, strict=False):
            ratios = {peer: spread(result.ratios(peer)) | {"rounds": result.ratios(peer)}
                      for peer in group.peers if case.kind != "value" and result.ratios(peer)}
            cases.append({"name": case.name, "kind": case.kind, "bar": case.bar, "against": case.against,
                          "met": result.met, "samples": result.samples, "ratios": ratios,
                          "warm_up": result.warm_up, "notes": result.notes, "cores_used_by_others": result.others})
        groups.append({"name": group.name, "question": group.question, "cases": cases} | group_figures(group, results))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"facts": seen, "groups": groups}, file, indent=1)
