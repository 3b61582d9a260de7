"""The frame of every solver: a state in memory, a function `advance` that says what it needs next, and the loop around it.

A solver here is a reverse-communication machine: `advance(s)` runs until it needs something of the objective and returns what (a
request), so one compiled solver serves every objective, evaluated natively from a table of launches or by Python. `__init__`
tells how a solver is written; engine.optimize and the tests are the callers. Knows arrays and addresses, never tensors.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from .. import libm
from ..cpu.launches import LAUNCH
from ..cpu.maps import ITEMSIZE
from ..cpu.native import Program, make_ufunc

# --- requests: what `advance` returns, and what the loop gives back ------------------------------------------------------
DONE, VALUE, VALUE_AND_GRAD, HESSIAN, PRODUCT, ITERATION, PAUSED, RESIDUALS, JACOBIAN = range(9)
REQUESTS = {"DONE": DONE, "VALUE": VALUE, "VALUE_AND_GRAD": VALUE_AND_GRAD, "HESSIAN": HESSIAN, "PRODUCT": PRODUCT,
            "ITERATION": ITERATION, "PAUSED": PAUSED, "RESIDUALS": RESIDUALS, "JACOBIAN": JACOBIAN}

# --- why a solver ended: those up to SUCCESSES are successes -------------------------------------------------------------
STATUSES = {"RUNNING": 0, "SMALL_GRADIENT": 1, "SMALL_CHANGE": 2, "SMALL_STEP": 3, "SMALL_VALUE": 4, "ITERATION_LIMIT": 10,
            "EVALUATION_LIMIT": 11, "SEARCH_FAILED": 12, "UNBOUNDED": 13, "NOT_A_NUMBER": 14, "STOPPED": 15, "NO_PROGRESS": 16,
            "INTERRUPTED": 17}
SUCCESSES = 9

# --- the state: 64-bit words, then vectors of the solver's dtype ---------------------------------------------------------
# SLOTS + k is where launches find operand base k: 0 (nothing), X, F, G, P, R, SCRATCH.
WORDS = {"STAGE": 0, "REQUEST": 1, "STATUS": 2, "N": 3, "NIT": 4, "NFEV": 5, "NJEV": 6, "NHEV": 7,
         "SLOTS": 8, "X": 9, "F": 10, "G": 11, "P": 12, "R": 13, "SCRATCH": 14, "CAPTURED": 16, "OBJECTIVE": 17, "FREE": 18,
         "NOW_X": 19, "NOW_G": 20, "NOW_F": 21, "RESULT_X": 22, "RESULT_G": 23, "VALUE_PLACE": 24, "M": 25, "LARGE": 26,
         "BOUNDS": 27, "LOWER": 28, "UPPER": 29,
         "BEST_F": 15, "BEST_X": 30, "BEST_G": 31}
OPTIONS, PRIVATE, HEADER = 32, 56, 128      # first option, first private word, size of the header in words
AGAIN = -1                                  # a STAGE: a run that has ended shall begin anew, from what was put into RESULT_X
SLOTS = {"x": 1, "f": 2, "g": 3, "p": 4, "r": 5, "scratch": 6}
FIRST_CAPTURED = 8                          # slots from here on are entries of the table at CAPTURED

# Where elements and words lie: behind one another here; `kernels.cuda.solvers` has another layout, and the rest in common.
ACCESS = """
@inline
def at(p, i):
    return as_float64(peek_{T}(pointer(p), i * {W}))

@inline
def put(p, i, value):
    store_{T}(pointer(p), i * {W}, as_{T}(value))

@inline
def place(p, i):
    return p + i * {W}

@inline
def place_of_word(p, k):
    return p + k * 8

@inline
def past(p, count):
    return p + (count * {W} + 7) // 8 * 8
"""

VECTOR = """
@shared
def dot(p, q, n):
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a += at(p, i) * at(q, i)
        b += at(p, i + 1) * at(q, i + 1)
        c += at(p, i + 2) * at(q, i + 2)
        d += at(p, i + 3) * at(q, i + 3)
    for i in range(whole, n):
        a += at(p, i) * at(q, i)
    return (a + b) + (c + d)

@inline
def norm(p, n):
    return sqrt(dot(p, p, n))

@inline
def largest(p, n):
    most = 0.0
    for i in range(n):
        size = abs(at(p, i))
        if not size <= most:
            most = size
    return most

@inline
def copy(p, q, n):
    for i in range(n):
        put(q, i, at(p, i))

@inline
def fill(p, n, value):
    for i in range(n):
        put(p, i, value)

@inline
def finite(value):
    return value - value == 0.0

@inline
def take(s, count):
    p = word(s, FREE)
    set_word(s, FREE, past(p, count))
    return p

@inline
def take_word(s, k, count):
    p = take(s, count)
    set_word(s, k, p)
    return p

@inline
def value_of(s):
    return at(word(s, F), 0)

@inline
def ended(s, status):
    set_word(s, STATUS, status)
    return DONE

@inline
def small_change(s):
    change, f, tolerance = number(s, CHANGE), number(s, NOW_F), number(s, FTOL)
    return tolerance > 0.0 and change <= tolerance * max(abs(f), abs(f + change), 1.0)

@inline
def over_limits(s):
    if word(s, NIT) >= number(s, MAXITER):
        return ITERATION_LIMIT
    if word(s, NFEV) >= number(s, MAXFUN):
        return EVALUATION_LIMIT
    return 0
"""
MEMORY = ACCESS + VECTOR

# One run of the objective: the launches of the first variant whose guards hold. 0 where Python has to answer.
EVALUATE = """
@inline
def base(s, slot):
    if slot < FIRST_CAPTURED:
        return word(s, SLOTS + slot)
    return word(word(s, CAPTURED), slot - FIRST_CAPTURED)
""" + LAUNCH + """
@inline
def evaluate(s, request):
    objective = word(s, OBJECTIVE)
    table = word(objective, request) if objective != 0 else 0
    if table == 0:
        return 0
    args = address(stack(512))
    for k in range(word(table, 0)):
        if launch(s, word(table, 1 + k), args) != 0:
            return 1
    return 0
"""

# The beginning and the end of a run, and what is counted on the way.
FRAME = """
@inline
def begin(s):
    n = word(s, N)
    set_word(s, FREE, place_of_word(s, HEADER))
    set_word(s, F, place_of_word(s, VALUE_PLACE))
    take_word(s, RESULT_X, n)
    take_word(s, RESULT_G, n)
    set_word(s, X, word(s, RESULT_X))
    set_word(s, G, word(s, RESULT_G))
    set_word(s, NOW_X, word(s, RESULT_X))
    set_word(s, NOW_G, word(s, RESULT_G))
    set_number(s, NOW_F, nan)

@inline
def settle(s):
    n = word(s, N)
    if word(s, BEST_X) != 0:
        set_word(s, NOW_X, word(s, BEST_X))
        set_word(s, NOW_G, word(s, BEST_G))
        set_number(s, NOW_F, number(s, BEST_F))
    if word(s, NOW_X) != word(s, RESULT_X):
        copy(word(s, NOW_X), word(s, RESULT_X), n)
    if word(s, NOW_G) != word(s, RESULT_G):
        copy(word(s, NOW_G), word(s, RESULT_G), n)
    set_word(s, NOW_X, word(s, RESULT_X))
    set_word(s, NOW_G, word(s, RESULT_G))

@inline
def count(s, request):
    if request == VALUE or request == VALUE_AND_GRAD or request == RESIDUALS:
        set_word(s, NFEV, word(s, NFEV) + 1)
    if request == VALUE_AND_GRAD or request == JACOBIAN:
        set_word(s, NJEV, word(s, NJEV) + 1)
    if request == HESSIAN or request == PRODUCT:
        set_word(s, NHEV, word(s, NHEV) + 1)
"""

# Operands: states (rows, words), control (budget, whether to stop at each iteration) -> request that Python has to answer.
LOOP = FRAME + """
@inline
def renew(s):
    for k in range(NIT, NIT + 4):
        set_word(s, k, 0)
    for k in range(PRIVATE, HEADER):
        set_word(s, k, 0)
    set_word(s, STATUS, 0)
    set_word(s, REQUEST, 0)
    set_word(s, BEST_X, 0)
    set_word(s, STAGE, 0)

@inline
def run(s, budget, stops):
    if word(s, STAGE) < 0:
        renew(s)
    request = word(s, REQUEST)
    if word(s, STAGE) == 0:
        begin(s)
    elif request == DONE:
        return DONE
    while True:
        count(s, request)
        request = advance(s)
        set_word(s, REQUEST, request)
        if request == DONE:
            settle(s)
            return DONE
        if request == ITERATION:
            if stops != 0:
                return ITERATION
        else:
            if evaluate(s, request) == 0:
                return request
            budget -= 1
            if budget <= 0:
                return PAUSED

def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        control = address(args[1]) + outer * steps[1]
        code = run(address(args[0]) + outer * steps[0], word(control, 0), word(control, 1))
        set_word(address(args[2]) + outer * steps[2], 0, code)
    clear_status()
"""


def _sqrt(x):
    return libm.sqrt(x)


FUNCTIONS = {"sqrt": (_sqrt, None)}


@dataclasses.dataclass(frozen=True, eq=False)
class Solver:
    """One solver: `source` defines `advance(s)`; `parts` are source texts that it builds on (line searches, dense algebra).

    `options` maps names to defaults, numbers or pairs (float64's, float32's); the word of an option is its name in capitals.
    `words` names private words (addresses, counts), `numbers` private float64 values. `vectors(n, m, options)` is how many
    elements of the dtype `advance` takes altogether. `requests` are those that it makes of the objective. `bounded`: it
    reads LOWER and UPPER. `matrices`: results of n * n elements by the word that holds their address. `cite`: where it comes from.
    """

    name: str
    source: str
    options: Mapping[str, float | tuple[float, float]]
    vectors: Callable[[int, int, Mapping[str, float]], int]
    words: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    requests: tuple[int, ...] = (VALUE_AND_GRAD,)
    bounded: bool = False
    matrices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, tuple[Callable, str | None]] = dataclasses.field(default_factory=dict)
    cite: str = ""

    def places(self) -> dict[str, int]:
        """Names of the state's words: the shared ones, this solver's options and its private words."""
        found = {**WORDS, **{k.upper(): OPTIONS + i for i, k in enumerate(self.options)}}
        found.update({k: PRIVATE + i for i, k in enumerate((*self.words, *self.numbers))})
        if len(self.options) > PRIVATE - OPTIONS or len(self.words) + len(self.numbers) > HEADER - PRIVATE:
            raise ValueError(f"{self.name}: more words than the header has")
        return found

    def defaults(self, dtype: str) -> dict[str, float]:
        """The options' defaults for "float64" or "float32"."""
        k = 1 if dtype == "float32" else 0
        return {name: v[k] if isinstance(v, tuple) else v for name, v in self.options.items()}

    def program(self, dtype: str) -> Program:
        """The whole solver as one kernel over states, for "float64" or "float32"."""
        text = constants(self.places()) + typed(MEMORY + EVALUATE + "".join(self.parts) + self.source + LOOP, dtype)
        return Program(f"solver_{self.name}_{dtype}", text, functions={**FUNCTIONS, **self.functions},
                       inputs=("int64", "int64"), outputs=("int64",), signature="(w),(c)->()", work=1 << 15)

    @functools.cached_property
    def _ufuncs(self) -> dict[str, np.ufunc]:
        return {}

    def run(self, dtype: str) -> np.ufunc:
        """`run(states, control)` -> requests: go on from each row of `states` until Python has to do something."""
        found = self._ufuncs.get(dtype)
        if found is None:
            found = self._ufuncs[dtype] = make_ufunc(self.program(dtype))
        return found

    def words_of_state(self, n: int, m: int, dtype: str, options: Mapping[str, float]) -> int:
        """Size of one problem's state in 64-bit words."""
        spare = 64          # each vector is rounded up to whole words
        elements = 2 * n + self.vectors(n, m, {**self.defaults(dtype), **options})
        return HEADER + (ITEMSIZE[dtype] * elements + 7) // 8 + spare

    def header(self, n: int, m: int, dtype: str, options: Mapping[str, float]) -> np.ndarray:
        """The first words of a fresh state; the starting point goes right behind them, at word HEADER."""
        words = np.zeros(HEADER, np.int64)
        words[WORDS["N"]], words[WORDS["M"]] = n, m
        numbers = words.view(np.float64)
        values = {**self.defaults(dtype), **options}
        numbers[OPTIONS:OPTIONS + len(self.options)] = [values[k] for k in self.options]
        return words


def constants(places: Mapping[str, int]) -> str:
    """Source that gives names to the words of a state, to requests and statuses."""
    named = {**REQUESTS, **STATUSES, **places, "FIRST_CAPTURED": FIRST_CAPTURED, "PRIVATE": PRIVATE, "HEADER": HEADER}
    return "".join(f"{k} = {v}\n" for k, v in named.items())


def typed(text: str, dtype: str) -> str:
    """Source for one dtype: {T} is its name, {W} its size in bytes."""
    return text.replace("{T}", dtype).replace("{W}", str(ITEMSIZE[dtype]))
