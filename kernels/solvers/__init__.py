"""Native solvers: minimisers, least squares and root finding, compiled once for all objectives.

A solver is a record `machine.Solver` (`kernels/solvers/<name>.py` ends with one) around source text that defines

    @inline
    def advance(s):         # s: the integer address of this problem's state
        ...
        return VALUE_AND_GRAD

`advance` runs from where it left off, which it keeps in the word STAGE (0 on the first call; it must not leave 0), until it needs
something, and returns the request:

    VALUE               f(x): reads the vector at word(s, X), puts the value at word(s, F); `value_of(s)` reads it
    VALUE_AND_GRAD      that and the gradient, a vector, at word(s, G)
    HESSIAN             the Hessian, n * n elements row by row, at word(s, R)
    PRODUCT             the Hessian at X times the vector at word(s, P), at word(s, R)
    RESIDUALS           the residuals, m elements, at word(s, R)
    JACOBIAN            the residuals at word(s, R), and their Jacobian, m * n elements row by row, at word(s, G)
    ITERATION           nothing; one iteration is over, and NOW_X, NOW_F (and NOW_G) are the new iterate
    DONE                nothing ever again: STATUS says why (`return ended(s, SMALL_GRADIENT)`), NOW_* is the best point, or BEST_X,
                        BEST_G and BEST_F are, where a solver whose values may rise has set them

X, G, P, R, NOW_X and NOW_G are words that hold addresses; a solver may change them between requests (swap instead of copying).
The counts NFEV, NJEV and NHEV are kept by the loop, NIT by the solver. NOW_F is a float64: `number(s, NOW_F)`.

The state of one problem, in 64-bit words from its address on: the header (HEADER words: those of `machine.WORDS`, options, private
words), then vectors of the solver's dtype. The first vector is the starting point and, at
the end, the result (RESULT_X); the second its gradient (RESULT_G); on the first call X = NOW_X = RESULT_X and G = NOW_G = RESULT_G.
`take_word(s, NAME, count)` hands out the next `count` elements and keeps their address in a private word. Places are made by
`place(p, i)` (element i of a vector) and `place_of_word(s, NAME)`, not by adding bytes: on CUDA (`kernels.cuda.solvers`), where one
thread has one problem, words and elements of all problems lie interleaved. Names:

    word(s, N), set_word(s, NIT, ...)               words, addresses, counts
    number(s, GTOL), set_number(s, STEP, ...)       options (in capitals) and private numbers, float64 whatever the dtype
    at(p, i), put(p, i, value)                      elements of vectors, computed in float64
    dot, norm, largest, copy, fill, finite          `largest` is NaN where an element is

A part (line search, trust region, dense algebra) is source text of inlined functions that take the state or addresses; solvers
list their parts, and the tests reach each part alone as a gufunc. Functions are `@inline`, or `@shared`, called and not
inlined, where they are long and used in several places: that keeps compile times low. `{T}` and `{W}` in a text are the dtype's
name and size.

`solver.run(dtype)` is the gufunc "(w),(c)->()": it goes on from each state (w words; the outer dimension is one problem each,
spread over threads) until Python has something to do and gives the request, or PAUSED after `control[0]` evaluations, or
ITERATION after each iteration where `control[1]` is not 0. A request that it gives back is to be answered before the next call.
An objective is native where the state's word OBJECTIVE is the address of a table, indexed by request, of addresses of

    variants:   count, then their addresses; the first one whose guards hold answers, and Python where none does
    variant:    launches, guards; for each launch: loop, data, dimensions, steps, operands, and (slot, offset) of each operand;
                for each guard: slot, offset, bytes, the bytes expected (padded to words)

An operand's address is its offset from a slot: 0 nothing (an absolute address), 1 X, 2 F, 3 G, 4 P, 5 R, 6 SCRATCH, and from 8
on the entries of the table at the state's word CAPTURED. SCRATCH is memory that the objective's launches share, one per state.
Function, data, dimensions and steps are those of a loop of NumPy's.
"""
from __future__ import annotations

import importlib

from .machine import Solver

_HOMES = {"lbfgs": "lbfgs", "lbfgsb": "lbfgsb", "bfgs": "bfgs", "cg": "cg", "gd": "first_order", "adam": "first_order",
          "nelder-mead": "nelder_mead", "newton": "newton", "newton-cg": "newton", "levenberg-marquardt": "levenberg_marquardt",
          "hybrid": "hybrid"}


def solver(name: str) -> Solver:
    """A solver by its name. KeyError where there is none."""
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name.replace("-", "_"))


def names() -> list[str]:
    """All solvers."""
    return list(_HOMES)
