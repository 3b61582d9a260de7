"""Small kernels that do the same for each i below a count, one thread an element: their frame, and the binary search in it.

Called by searching, counting, positions, losses and others of `kernels.cuda`, which write the statements.
"""
from __future__ import annotations

from ..source import indented
from .compiler import Program
from .launch import Launch, View, grid_of

THREADS = 256


def program_of(name: str, addresses: str, numbers: str, lines: list[str], front: str = "", reals: str = "") -> Program:
    """A kernel that runs statements for each i below `count`; names of addresses, 64-bit integers and (last) float64 numbers.

        >>> print(program_of("twice", "q, x", "step", ["store_int64(q, i * 8, 2 * read_int64(x, i * step))"]).source)
        def kernel(q, x, count, step):
            i = block() * threads() + thread()
            while i < count:
                store_int64(q, i * 8, 2 * read_int64(x, i * step))
                i = i + blocks() * threads()
        <BLANKLINE>
    """
    words = [[word for word in text.split(", ") if word] for text in (addresses, "count, " + numbers, reals)]
    code = ["i = block() * threads() + thread()", "while i < count:", *indented(1, [*lines, "i = i + blocks() * threads()"])]
    source = [*([front] if front else []), f"def kernel({', '.join(w for word in words for w in word)}):", *indented(1, code)]
    types = [t for word, t in zip(words, ("address", "int64", "float64"), strict=True) for _ in word]
    return Program(name, "\n".join(source) + "\n", tuple(types), {}, THREADS)


def launches_of(program: Program, views: tuple[View, ...], count: int, *numbers: float) -> list[Launch]:
    """The launch of such a kernel; none for no elements."""
    return [Launch(program, grid_of(count, THREADS), (*(v.address for v in views), count, *numbers))] if count else []


def search_for(before: str, found: str = "low") -> list[str]:
    """Statements: `found`, the first of `r` sorted elements for which `before`, a condition on `middle`, does not hold."""
    return [f"{found}, high = 0, r", f"while {found} < high:",
            *indented(1, [f"middle = ({found} + high) >> 1", f"if {before}:", f"    {found} = middle + 1", "else:",
                          "    high = middle"])]
