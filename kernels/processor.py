"""The processor that kernels are made for: this machine's, or another one when they are compiled ahead.

`target` is LLVM's name of a processor or of a level of x86-64 (x86-64-v3), "" for this machine's own. It is set once, before any
kernel is made (`python -m engine warmup --target`). Asked by templates whose tiles depend on the vector registers, by the compiler
and by `kernels.packs`.
"""
from __future__ import annotations

import functools

target = ""

# What each level has beyond the one below, in LLVM's words; source: x86-64 psABI, table 3.1.
_LEVELS = (
    ("x86-64", ("cx8", "fxsr", "mmx", "sse", "sse2")),
    ("x86-64-v2", ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")),
    ("x86-64-v3", ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")),
    ("x86-64-v4", ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")),
)


def level(name: str) -> frozenset[str] | None:
    """The features that a level of x86-64 has, none for "generic" (any processor of the kind); None for any other name."""
    if name == "generic":
        return frozenset()
    names = [known for known, _ in _LEVELS]
    if name not in names:
        return None
    return frozenset(f for _, features in _LEVELS[:names.index(name) + 1] for f in features)


@functools.cache
def host() -> tuple[str, frozenset[str]]:
    """This machine's processor in LLVM's words, and its features."""
    from llvmlite import binding as llvm
    return llvm.get_host_cpu_name(), frozenset(f for f, has in llvm.get_host_cpu_features().items() if has)


def targets() -> list[str]:
    """The names that kernels can be compiled ahead for on this machine."""
    from llvmlite import binding as llvm
    x86 = llvm.get_process_triple().startswith(("x86_64", "amd64"))
    return ["generic", *((name for name, _ in _LEVELS) if x86 else ()), host()[0]]


def features() -> frozenset[str]:
    """Features that kernels may count on; of a target that is no level of x86-64 none is known."""
    return host()[1] if not target else level(target) or frozenset()


def suits(name: str) -> bool:
    """Whether code for a processor of this name runs on this machine."""
    needed = level(name)
    return name == host()[0] if needed is None else needed <= host()[1]
