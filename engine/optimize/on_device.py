"""`minimize` with `batch_dims=1` on CUDA: one problem a thread, all of them in one kernel (`kernels.cuda.solvers`).

The function is traced and differentiated on the host, as for the CPU's solvers; its programs become scalar code inside of the
kernel. A problem that meets a branch without code waits; the branch is traced at its point, and the next kernel goes on from there.
What does not become scalar code (products of large matrices, random numbers, too many branches) is left to the host's solvers.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kernels.cuda.launch import View
from kernels.cuda.solvers import COUNTS, Batch, Evaluation, program
from kernels.solvers.machine import DONE, HESSIAN, PAUSED, PRODUCT, STATUSES, SUCCESSES, VALUE_AND_GRAD, Solver
from kernels.source import ITEMSIZE, loaded, number_text, unpacked

from .. import tree
from ..compiler import native, straight
from ..compiler.graph import Graph, Guard, Ref
from ..device_arrays import of_view, upload
from ..devices import CPU, device
from ..errors import DeviceError
from ..functions.convert import moved_recorded
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from .objective import RESULTS, Objective, Watched, described, keep, minimised
from .result import REASONS, OptimizeResult
from .running import Progress

MOST = 2000             # statements of a program up to which it becomes scalar code
BUDGET = 1000           # evaluations of a problem in one launch, so that Ctrl-C works
SAMPLES = 16            # problems that are looked at before a kernel is made
solved = 0              # runs that ended on a device; tests count them
PLACES = {"f": "F", "g": "G", "r": "R"}         # a result -> the word of a state that says where it goes


class DeviceObjective(Objective):
    """An objective whose programs are statements of a kernel instead of tables of launches."""

    def __init__(self, functions: dict[int, Callable], shape: tuple[int, ...], dtype: np.dtype, args: tuple, loops: object = None):
        super().__init__(functions, shape, dtype, args)         # loops are traced as everything is

    def _table(self, request: int, variant: Any, operands: Sequence[Tensor], args: tuple) -> Any:
        recorded, graph = self._checked(request, variant), variant.forward.graph
        if straight.cost(graph) > MOST:
            raise native.NotNative("it is too large for scalar code")
        numbers = [*range(self.tensors), *(self._captured_at(owner) for owner in recorded.owners)]
        return evaluation(graph, "xp"[:len(operands)], numbers, [PLACES[name] for name in RESULTS[request]])

    def _join(self, request: int, table: Any) -> None:
        self.tables[request].append(table)

    def count(self) -> int:
        """How many programs there are; they only ever grow in number."""
        return sum(map(len, self.tables.values()))


def evaluation(graph: Graph, vectors: str, captured: Sequence[int], results: Sequence[str]) -> Evaluation:
    """A graph as scalar code. Its first inputs are `vectors` of the state; `captured`: the numbers of its other inputs, and of the
    tensors that it captured, among the kernel's addresses; `results`: words that hold the addresses of its results.
    """
    nodes = [n for n in graph.nodes if not isinstance(n, Guard) and all(v.size for v in n.values)]
    writer = straight.writer_of(nodes)
    values = [*graph.inputs, *(v for v, _ in graph.captured if not v.constant)]
    for value, name in zip(values, vectors, strict=False):
        writer.input(value, lambda k, p=name, d=value.dtype: unpacked(d, f"load_{d}({p}, {k} * span())"))
    for value, number in zip(values[len(vectors):], captured, strict=True):
        writer.input(value, lambda k, c=number, d=value.dtype: loaded(d, f"c{c}", str(k * ITEMSIZE[d])))
    for value in (v for v, _ in graph.captured if v.constant and v.size):
        memory = np.lib.stride_tricks.as_strided(value.array, (value.extent,), (value.array.itemsize,))
        literal = "float32" if value.dtype == "float16" else value.dtype
        writer.input(value, lambda k, a=memory, d=literal: number_text(a[k].item(), d))
    writer.nodes(nodes)

    def elements(ref: Ref) -> list[str]:
        source = writer.elements[id(ref.value)]
        return [source[p] for p in straight.positions(ref)]
    stores = [(word, elements(ref)) for word, ref in zip(results, graph.wanted(), strict=False)]
    conditions = [_holds(value, seen) for guard in graph.nodes if isinstance(guard, Guard)
                  for value, seen in zip(elements(guard.reads[0]), np.ravel(guard.seen).tolist(), strict=True)]
    return Evaluation(writer.statements, stores, " and ".join(conditions), writer.functions)


def _holds(value: str, seen: Any) -> str:
    """Source of the test that a value is again what was seen."""
    if isinstance(seen, bool):
        return f"({value})" if seen else f"(not {value})"
    return f"({value} != {value})" if seen != seen else f"({value} == {seen!r})"


class DevicePlan(Watched):
    """A solver with its options for an objective: what repeated calls share."""

    def __init__(self, fun: Callable, objective: DeviceObjective, solver: Solver, settings: Mapping[str, float],
                 bounds: tuple[np.ndarray, np.ndarray] | None):
        self.watch(fun, objective)
        self.solver, self.settings, self.bounds = solver, settings, bounds
        self.kernels: dict[int, Any] = {}       # number of programs of the objective -> kernel

    def solve(self, x0: Tensor, args: tuple, captured: Sequence[View],
              progress: Progress | None) -> OptimizeResult | None:
        """Solve for each row of `x0`; None where the host has to. `args` are the host's, `captured` their tensors on the device."""
        objective, place = self.objective, x0.device
        starts = x0.detach().reshape(len(x0), -1).contiguous()._array
        with device("cpu"):
            if not objective.count() and not self._traced_at_starts(starts, args):
                return None
            batch = Batch(starts.device, self.solver, objective.dtype.name, starts.view, self.settings, self.bounds)
            memory = list(captured)
            try:
                while True:
                    new = objective.owners[len(memory) - len(captured):]        # traces find more of them on the way
                    memory += [_uploaded(owner.array(), starts.device) for owner in new]
                    codes = batch.go(self._kernel(), memory, BUDGET)
                    if progress is not None:
                        progress.say(*_seen(batch))
                    if not codes.any():
                        return self._result(batch, x0, place)
                    waiting = np.flatnonzero((codes != DONE) & (codes != PAUSED))
                    if len(waiting) and not self._traced(batch, codes, waiting, args):
                        return None
            except KeyboardInterrupt as error:
                error.result = self._result(batch, x0, place)
                raise
            finally:
                if progress is not None:
                    progress.close()

    def _traced_at_starts(self, starts: Any, args: tuple) -> bool:
        points = [starts[k:k + 1].host().reshape(-1) for k in _spread(range(len(starts)))]
        requests = [r for r in self.solver.requests if r != DONE]
        return all(self._trace(r, args, x, x if r == PRODUCT else None) for x in points for r in requests)

    def _traced(self, batch: Batch, codes: np.ndarray, waiting: np.ndarray, args: tuple) -> bool:
        """Trace what problems wait for; False where that gives no code."""
        before = self.objective.count()
        for row in _spread(waiting):
            request = int(codes[row])
            if not self._trace(request, args, batch.vector(row, "X"), batch.vector(row, "P") if request == PRODUCT else None):
                return False
        return self.objective.count() > before

    def _trace(self, request: int, args: tuple, x: np.ndarray, p: np.ndarray | None) -> bool:
        """Evaluate in Python; False where the program that this made does not become scalar code."""
        try:
            self.objective.answer(request, args, x, p)
        except DeviceError as error:
            raise DeviceError(f"minimize: the function is traced with tensors of the CPU and met one of another device; tensors on "
                              f"a device belong into `args` ({error})") from None
        return bool(self.objective.tables[request]) and request not in self.objective.reasons

    def _kernel(self) -> Any:
        objective = self.objective
        found = self.kernels.get(objective.count())
        if found is None:
            evaluations = {r: objective.tables[r] for r in self.solver.requests if objective.tables.get(r)}
            found = self.kernels[objective.count()] = program(self.solver, objective.dtype.name, evaluations,
                                                              objective.tensors + len(objective.owners))
        return found

    def _result(self, batch: Batch, x0: Tensor, place: device) -> OptimizeResult:
        counts = dict(zip(COUNTS, batch.device.read(batch.counts), strict=True))
        codes = np.where(counts["REQUEST"] == DONE, counts["STATUS"], STATUSES["INTERRUPTED"])
        table = np.zeros(max(REASONS) + 1, np.int64)
        table[list(REASONS)] = [status for status, _ in REASONS.values()]
        messages = np.empty(max(REASONS) + 1, object)
        messages[list(REASONS)] = [message for _, message in REASONS.values()]

        def tensor(array: Any) -> Tensor:
            array = of_view(array, place) if isinstance(array, View) else upload(np.ascontiguousarray(array), place)
            return wrap(array, KIND_OF_NUMPY[array.dtype])
        result = OptimizeResult(x=tensor(batch.x).reshape(x0.shape), fun=tensor(batch.f))
        if VALUE_AND_GRAD in self.solver.requests or HESSIAN in self.solver.requests:
            result["jac"] = tensor(batch.g).reshape(x0.shape)
        result.update({k: tensor(counts[k.upper()]) for k in ("nit", "nfev", "njev")})
        result.update(success=tensor((codes > 0) & (codes <= SUCCESSES)), status=tensor(table[codes]),
                      message=messages[codes].tolist())
        return result


def _seen(batch: Batch) -> tuple[int, int, float]:
    """(iterations, evaluations, lowest value) so far."""
    counts = batch.device.read(batch.counts)
    return int(counts[COUNTS.index("NIT")].max()), int(counts[COUNTS.index("NFEV")].sum()), float(batch.device.read(batch.f).min())


def _spread(rows: Sequence[int]) -> list[int]:
    """Some of the rows, from the first to the last."""
    return [int(rows[k]) for k in sorted({round(k) for k in np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows)))})]


def _uploaded(array: np.ndarray, target: Any) -> View:
    """A copy of a host array's memory, with its strides."""
    low, _ = np.lib.array_utils.byte_bounds(array)
    view = target.put(native.twin(array).base)
    return View(view.address + array.__array_interface__["data"][0] - low, array.dtype.name, array.shape, array.strides, view.owner)


def minimum(fun: Callable, x0: Tensor, args: tuple, solver: Solver, settings: Mapping[str, float],
            bounds: tuple[np.ndarray, np.ndarray] | None, plans: dict, progress: Progress | None) -> OptimizeResult | None:
    """Minimise from each row of `x0`; None where the host's solvers have to. `plans` keeps what is made for the function."""
    there = tree.mapped(lambda a: a.detach().to(x0.device).contiguous() if isinstance(a, Tensor) else a, args)
    here = tree.mapped(lambda a: moved_recorded(a, CPU).contiguous() if isinstance(a, Tensor) else a, there)
    leaves: list = []
    structure = tree.flatten(here, leaves)
    shape, dtype = tuple(x0.shape[1:]), x0._kind.numpy
    key = (x0.device, shape, dtype, structure, tuple(map(described, leaves)), solver.name, tuple(sorted(settings.items())),
           None if bounds is None else tuple(b.tobytes() for b in bounds))
    try:
        plan = plans.get(key)
    except TypeError:               # an argument that is neither a tensor nor hashable
        plan, plans, key = None, {}, None
    if plan is None or not plan.fits():
        objective = minimised("minimize", fun, shape, dtype, here, DeviceObjective)
        plan = keep(plans, key, DevicePlan(fun, objective, solver, settings, bounds))
    captured: list = []
    tree.flatten(there, captured)
    global solved
    found = plan.solve(x0, here, [t._array.view for t in captured if isinstance(t, Tensor)], progress)
    solved += found is not None
    return found
