"""`python -m engine`: `info` prints versions, processor, store and devices; `warmup` compiles ahead of first use."""
from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence


def info() -> str:
    """Versions, processor, threads, store, packs and devices, one a line."""
    import engine
    from kernels import packs, processor, store
    from kernels.cpu import pool
    name, features = processor.host()
    levels = [target for target in processor.targets() if target != name and processor.suits(target)]
    python = f"{platform.python_version()} ({sys.implementation.name}), {platform.platform()}"
    lines = [("engine", engine.__version__), ("Python", python)]
    for package in ("numba", "llvmlite", "numpy", "numba-cuda"):
        try:
            lines.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            lines.append((package, "not installed"))
    wide = [f for f in ("sse4.2", "avx", "avx2", "fma", "avx512f", "neon", "sve") if f in features]
    lines.append(("processor", f"{name} ({levels[-1]}; {', '.join(wide)})"))
    lines.append(("threads", f"{engine.get_num_threads()} of {os.cpu_count()} processors, grain {pool.GRAIN} elements"))
    folder = store.folder()
    if folder is None:
        lines.append(("store", "none can be had: kernels are kept in memory"))
    else:
        sizes = [f.stat().st_size for f in folder.glob("*.kernel")]
        lines.append(("store", f"{folder}: {len(sizes)} kernels, {sum(sizes) / 2 ** 20:.1f} MiB"))
    for file, header, _ in packs.usable():
        lines.append(("pack", f"{file}: {len(header['kernels'])} kernels for {header['target']}"))
    lines.append(("devices", ", ".join(["cpu", *(f"cuda:{k}" for k in range(engine.cuda.device_count()))])))
    return "\n".join(f"{word:10} {text}" for word, text in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser("python -m engine", description=__doc__.partition(": ")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print versions, processor, store and devices")
    warm = commands.add_parser("warmup", help="compile the kernels of common operators and of the solvers ahead of their first use")
    warm.add_argument("--dtype", action="append", choices=("float32", "float64"), help="only for this dtype (may be repeated)")
    warm.add_argument("--target", default="", help="compile for another processor (x86-64-v2, x86-64-v3, ...) into a pack")
    warm.add_argument("--pack", default="", help="the pack's file; by default one in the package, which a wheel carries")
    given = parser.parse_args(arguments)
    if given.command == "info":
        print(info())
        return 0
    from . import warmup
    try:
        warmup.run(tuple(given.dtype or ("float32", "float64")), given.target, given.pack)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
