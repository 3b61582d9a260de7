"""Statements in the text of a kernel: a user's function becomes, statement by statement, one of values and tangents.

Kinds of variables, and which of them have tangents, are found by running over the assignments until nothing changes; then the
text is written once more. Expressions are in `derive_values` and `derive_tangents`. Called by `kernels.derive.Scalar`.
"""
from __future__ import annotations

import ast
import itertools

from .derive_functions import interrupted
from .derive_tangents import Tangents
from .derive_values import E, _floating, _said


class Writer(Tangents):
    """The text of one function with tangents for `wanted`."""

    def __init__(self, scalar: object, wanted: tuple[str, ...]):
        self.scalar, self.wanted = scalar, wanted
        own = scalar.name if hasattr(scalar.function, "typed") else f"f_{scalar.name}"     # variables are u_..., t0, ...
        self.name = "_along_".join([own, *(["_".join(wanted)] if wanted else [])])
        self.lines: list[str] = []
        self.places: list[int] = []                 # of each line, the line of the user's text
        self.names: dict[str, object] = {}          # what the text refers to
        self.indent, self.count = 1, 0
        self.kinds: dict[str, object] = {n: scalar.kinds.get(n, "float") for n in scalar.inputs}
        self.active: list[set[str]] = [{w} for w in wanted]
        self.result: object = None
        self.locals = set(scalar.inputs)
        self.at: ast.AST = scalar.definition
        self.settled: object = None                 # the kind of the result, once it is known
        self._settle()

    def _settle(self) -> None:
        """Run over the assignments until kinds and activity no longer change."""
        body = self.scalar.definition.body
        for node in ast.walk(self.scalar.definition):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.locals.add(node.id)
        for _ in range(2 * len(self.locals) + 2):
            before = dict(self.kinds), [set(a) for a in self.active]
            self.lines, self.places, self.count = [], [], 0
            self.block(body)
            if before == (self.kinds, self.active):
                break
        self.settled = self.result
        self.lines, self.places, self.count, self.result = [], [], 0, None

    def meet(self, name: str, kind: object, tangents: tuple) -> None:
        """A variable is assigned."""
        old = self.kinds.get(name)
        self.kinds[name] = kind if old is None or old == kind else self.joined(old, kind)
        for k, t in enumerate(tangents):
            if t is not None:
                self.active[k].add(name)

    def function(self) -> str:
        definition = self.scalar.definition
        if not hasattr(self.scalar.function, "typed"):
            self.assigned(definition.body, set(self.scalar.inputs))
        if self.scalar.fastmath:
            self.say(repr(f"fastmath: {', '.join(self.scalar.fastmath)}"))        # in the text, so in the store's key
        self.seeds()
        self.block(definition.body)
        if _may_end(definition.body):
            raise self.problem("it may end without returning a value", definition.body[-1])
        if self.result is None:
            raise self.problem("it never returns a value", definition)
        return "\n".join([f"def {self.name}({', '.join(self.parameters())}):", *self.lines]) + "\n"

    def parameters(self) -> list[str]:
        """The parameters of the text."""
        return [f"u_{n}" for n in self.scalar.inputs]

    def seeds(self) -> None:
        """The tangents of the inputs."""
        for k, w in enumerate(self.wanted):
            self.say(f"d{k}_{w} = _T(1)")
            for other in self.scalar.inputs:
                if other != w and other in self.active[k]:
                    self.say(f"d{k}_{other} = _T(0)")

    def assigned(self, body: list[ast.stmt], known: set[str] | None) -> set[str] | None:
        """The variables that have a value behind a block, None where its end is not reached; checks what is read on the way."""
        for node in body:
            if known is None:
                return None
            blocks = [n for n in ("body", "orelse") if hasattr(node, n)]
            for part in [getattr(node, n) for n in ("test", "iter", "value") if getattr(node, n, None) is not None]:
                self.reads(part, known)
            if isinstance(node, ast.AugAssign):
                self.reads(ast.copy_location(ast.Name(getattr(node.target, "id", ""), ast.Load()), node), known)
            if isinstance(node, (ast.Return, ast.Break, ast.Continue)):
                return None
            if isinstance(node, ast.If):
                ends = [self.assigned(getattr(node, n), set(known)) for n in blocks]
                left = [e for e in ends if e is not None]
                known = set.intersection(*left) if left else None
            elif isinstance(node, ast.While):
                forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
                self.assigned(node.body, set(known))
                if forever:         # it is left by `break` alone: what is assigned in front of the first one has a value
                    for inner in itertools.takewhile(lambda n: not any(isinstance(m, ast.Break) for m in ast.walk(n)), node.body):
                        known = self.assigned([inner], known) or known
            elif isinstance(node, ast.For):
                self.assigned(node.body, known | {getattr(node.target, "id", "")})
            else:
                known = known | {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        return known

    def reads(self, expression: ast.expr, known: set[str]) -> None:
        for n in ast.walk(expression):
            if isinstance(n, ast.Name) and n.id in self.locals and n.id not in known:
                raise self.problem(f"`{n.id}` may have no value here", n)

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.at = statement
            method = getattr(self, f"do_{type(statement).__name__}", None)
            if method is None:
                raise self.problem(f"`{_word(statement)}` cannot be in a kernel")
            method(statement)

    def do_Pass(self, node) -> None:
        self.say("pass")

    def do_Break(self, node) -> None:
        self.say("break")

    def do_Continue(self, node) -> None:
        self.say("continue")

    def do_Expr(self, node) -> None:
        if isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            raise self.problem("a generator cannot be a kernel")
        if not isinstance(node.value, ast.Constant):
            raise self.problem("an expression whose value is not used cannot be in a kernel (print, calls with effects)")

    def do_Assert(self, node) -> None:
        raise self.problem("a kernel cannot raise: return nan, or check before the call")

    do_Raise = do_Assert

    def do_Assign(self, node) -> None:
        if len(node.targets) != 1:
            for target in node.targets[1:]:
                self.assign(target, self.expression(node.value))
        self.assign(node.targets[0], self.expression(node.value))

    def do_AnnAssign(self, node) -> None:
        if node.value is not None:
            self.assign(node.target, self.expression(node.value))

    def do_AugAssign(self, node) -> None:
        left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node) if isinstance(node.target, ast.Name) else None
        if left is None:
            raise self.problem("only plain variables can be assigned in a kernel")
        self.assign(node.target, self.expression(ast.copy_location(ast.BinOp(left, node.op, node.value), node)))

    def assign(self, target: ast.expr, value: E) -> None:
        if isinstance(target, ast.Name):
            self.meet(target.id, value.kind, value.tangents)
            name, kind = f"u_{target.id}", self.kinds[target.id]
            active = [k for k in range(len(self.wanted)) if target.id in self.active[k]]
            left = [name, *(f"d{k}_{target.id}" for k in active)]
            right = [self.as_kind(value, kind), *(value.tangents[k] or self.zero(kind) for k in active)]
            self.say(f"{', '.join(left)} = {', '.join(right)}")
        elif isinstance(target, (ast.Tuple, ast.List)):
            if not isinstance(value.kind, tuple) or len(value.kind) != len(target.elts):
                raise self.problem(f"{len(target.elts)} variables cannot be assigned from {_said(value.kind)}")
            whole = self.let(value.text)
            tangents = [None if t is None else self.let(t) for t in value.tangents]
            for k, part in enumerate(target.elts):
                self.assign(part, E(f"{whole}[{k}]", value.kind[k], tuple(None if t is None else f"{t}[{k}]" for t in tangents)))
        else:
            raise self.problem("only plain variables can be assigned in a kernel")

    def do_Return(self, node) -> None:
        if node.value is None:
            raise self.problem("a kernel must return a number, or a tuple of numbers")
        value = self.expression(node.value)
        self.result = value.kind if self.result is None else self.joined(self.result, value.kind)
        kind = self.result
        if kind == "bool" and self.wanted:
            raise self.problem("a truth value has no derivative")
        text = self.as_kind(value, _floating(kind))
        if not self.wanted:
            self.say(f"return {text}")
        else:
            self.say(f"return {', '.join([text, *(t or self.zero(kind) for t in value.tangents)])}")

    def do_If(self, node) -> None:
        self.say(f"if {self.truth(node.test)}:")
        self.inside(node.body)
        if node.orelse:
            self.say("else:")
            self.inside(node.orelse)

    def inside(self, body: list[ast.stmt]) -> None:
        self.indent += 1
        self.block(body)
        self.indent -= 1

    def do_While(self, node) -> None:
        if node.orelse:
            raise self.problem("`while ... else` cannot be in a kernel")
        forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        if hasattr(self.scalar.function, "typed"):          # it asks already whether it shall end
            self.say(f"while {self.truth(node.test)}:")
            self.inside(node.body)
            return
        count = f"c{self.count}"
        self.count += 1
        self.names["interrupted"] = interrupted
        self.say(f"{count} = 0")
        self.say(f"while {self.truth(node.test)}:")
        self.indent += 1
        for line in (f"{count} += 1", f"if interrupted({count}):", "    break"):
            self.say(line)
        self.indent -= 1
        self.inside(node.body)
        if forever and not _may_end([node]) and self.settled is not None:
            zero = self.zero(self.settled)
            self.say(f"return {', '.join([zero] * (1 + len(self.wanted)))}")

    def do_For(self, node) -> None:
        call = node.iter
        plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and self.scalar.space.get(call.func.id) is range
        if not plain or call.keywords or node.orelse or not isinstance(node.target, ast.Name):
            raise self.problem("a `for` in a kernel must be `for name in range(...)`, without else")
        bounds = [self.plain(a) for a in call.args]
        for b, given in zip(bounds, call.args, strict=True):
            if b.kind != "int":
                own = isinstance(given, ast.Name) and given.id in self.scalar.inputs
                raise self.problem("the bounds of range must be integers; " + (
                    f"say nondifferentiable=({given.id!r},) where `{given.id}` is one, or " if own else "") + "convert with int()")
        texts = [b.text for b in bounds]
        if len(bounds) == 3 and not hasattr(self.scalar.function, "typed"):
            texts = self.steps(bounds)
        self.meet(node.target.id, "int", ())
        index = f"u_{node.target.id}" if self.kinds[node.target.id] == "int" else self.fresh_index()
        self.say(f"for {index} in range({', '.join(texts)}):")
        if index != f"u_{node.target.id}":
            self.indent += 1
            self.assign(node.target, E(index, "int", (None,) * len(self.wanted)))
            self.indent -= 1
        self.inside(node.body)

    def steps(self, bounds: list[E]) -> list[str]:
        """The bounds of a range with a step; where that is 0 there are no turns, as kernels cannot raise."""
        if bounds[2].literal:
            if not ast.literal_eval(bounds[2].text):
                raise self.problem("the step of range must not be 0")
            return [b.text for b in bounds]
        first, last, step = [self.let(b.text) for b in bounds]
        return [first, f"({last} if {step} != 0 else {first})", f"({step} if {step} != 0 else 1)"]

    def fresh_index(self) -> str:
        self.count += 1
        return f"k{self.count}"


def _may_end(body: list[ast.stmt]) -> bool:
    """Whether the end of a block can be reached."""
    last = body[-1] if body else None
    if isinstance(last, ast.Return):
        return False
    if isinstance(last, ast.If):
        return not last.orelse or _may_end(last.body) or _may_end(last.orelse)
    if isinstance(last, ast.While) and isinstance(last.test, ast.Constant) and last.test.value:
        return any(isinstance(n, ast.Break) for n in ast.walk(last))
    return True


def _word(node: ast.stmt) -> str:
    return {"FunctionDef": "def", "With": "with", "Try": "try", "Import": "import", "ImportFrom": "import", "Global": "global",
            "Nonlocal": "nonlocal", "Delete": "del", "ClassDef": "class", "Match": "match"}.get(type(node).__name__,
                                                                                                  type(node).__name__.lower())
