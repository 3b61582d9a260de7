"""PTX text -> functions, registers, parameters, variables, instructions: the form that program.py links and runs.

What PTX spells by name is resolved here: each function's registers become numbers ("#12"), its parameters and the
`.param` variables of its calls "&3", its own shared and local variables and the module's variables "@name", its labels
"function:label". Nested scopes may declare a name again. Line numbers, and the program's lines from `.loc`, are kept.
"""
from __future__ import annotations

import bisect
import dataclasses
import re

from .errors import SyntaxFault, UnsupportedInstruction

SIZES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4,
         "f16x2": 4, "bf16x2": 4, "s16x2": 4, "u16x2": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8, "f32x2": 8, "b128": 16, "pred": 1}
_NAME = re.compile(r"(?<![\w.])[%$_A-Za-z][\w$]*")
_OPEN, _CLOSE = "⟨", "⟩"        # braces of vectors and of initial values, told apart from those of scopes
_COMMA = re.compile(rf",(?![^\[({_OPEN}]*[\]){_CLOSE}])")
_STATEMENT = re.compile(r"\s*(?:(?P<brace>[{}])|(?P<label>[\w$%]+)\s*:(?!:)|(?P<text>[^;{}]*);)")
_INSTRUCTION = re.compile(r"(?:@(!?)\s*(%?[\w$]+)\s+)?([a-z]\w*)((?:(?:\.|::)\w+)*)\s*(.*)$", re.S)
_DECLARATION = re.compile(r"((?:\.\w+\s+)*?)(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$%]+)(?:<(\d+)>)?((?:\[\s*\d*\s*\])*)"
                          r"(?:\s*=\s*(.*))?$", re.S)


@dataclasses.dataclass
class Variable:
    """A declared name: space "reg", "param", "global", "const", "shared" or "local"; `count` None for `x[]`."""
    space: str
    align: int
    kind: str
    name: str
    count: int | None
    values: str | None = None       # the text of the initial values
    numbered: int | None = None     # n of `%r<n>`
    external: bool = False

    @property
    def nbytes(self) -> int:
        return SIZES[self.kind] * (self.count or 0)


@dataclasses.dataclass
class Instruction:
    """One instruction: `guard` is the register of its predicate or None; `flops` of one thread; `line` counts from 1."""
    opcode: str
    modifiers: tuple[str, ...]
    operands: list[str]
    guard: str | None
    negated: bool
    line: int
    text: str
    source: str | None = None
    flops: int = 0


@dataclasses.dataclass
class Function:
    """A kernel (`entry`) or device function. `body` is None where it is only declared."""
    name: str
    entry: bool
    results: list[Variable]
    parameters: list[Variable]
    line: int
    limits: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)    # maxntid, reqntid
    body: list[Instruction] | None = None
    labels: dict[str, int] = dataclasses.field(default_factory=dict)                # label -> position in body
    tables: dict[str, list[str]] = dataclasses.field(default_factory=dict)          # of brx.idx: label -> labels
    registers: list[str] = dataclasses.field(default_factory=list)                  # the kind of each
    storage: list[int] = dataclasses.field(default_factory=list)                    # bytes of each parameter variable
    variables: list[Variable] = dataclasses.field(default_factory=list)             # its shared and local ones


class Module:
    """A parsed text. `functions` by name, `variables` of the module by name, `target` as (9, 0).

    `before` lines stand before the text: those of the texts that it is linked to.
    """

    def __init__(self, text: str, before: int = 0):
        self._before = before
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, Variable] = {}
        self._sources: list[tuple[int, str]] = []
        text = self._prepare(text)
        self._text, self._newlines = text, [m.start() for m in re.finditer("\n", text)]
        position = 0
        while (position := re.compile(r"\s*").match(text, position).end()) < len(text):
            position = self._top(position)

    # --- lines -------------------------------------------------------------------------------------------------------

    def _prepare(self, text: str) -> str:
        """The text without comments, directives of debugging and header, every line where it was."""
        def blank(match):
            return re.sub(r"[^\n]", " ", match.group(0))
        text = re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.S)
        text = re.sub(r"^\s*\.section\b.*\Z", blank, text, flags=re.M | re.S)      # NVVM puts the debug sections last
        files = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, flags=re.M))
        for match in re.finditer(r"^\s*\.loc\s+(\d+)\s+(\d+)\b", text, flags=re.M):
            line = text.count("\n", 0, match.end()) + 1 + self._before
            self._sources.append((line, f"{files.get(match.group(1), '?')}:{match.group(2)}"))
        text = re.sub(r"^[ \t]*\.(file|loc)\b[^\n]*", blank, text, flags=re.M)
        target = re.search(r"^\s*\.target\s+sm_(\d+)(\d)", text, flags=re.M)
        self.target = (int(target.group(1)), int(target.group(2))) if target else None
        text = re.sub(r"^[ \t]*\.(version|target|address_size)\b[^\n]*", blank, text, flags=re.M)
        return re.sub(r"\{([^{};]*[^{};\s][^{};]*)\}", lambda m: f"{_OPEN}{m.group(1)}{_CLOSE}", text)

    def _line(self, position: int) -> int:
        return bisect.bisect_left(self._newlines, position) + 1 + self._before

    def _source(self, line: int) -> str | None:
        k = bisect.bisect_right(self._sources, (line, "\U0010ffff"))
        return self._sources[k - 1][1] if k else None

    # --- the outermost level -----------------------------------------------------------------------------------------

    def _top(self, start: int) -> int:
        """Read one function or variable that begins at `start`; returns where it ends."""
        text = self._text
        ends = [k for k in (text.find(";", start), text.find("{", start)) if k >= 0]
        if not ends:
            raise SyntaxFault(f"PTX ends inside a statement: {text[start:start + 60].strip()!r}", line=self._line(start))
        end = min(ends)
        head = text[start:end]
        if not re.search(r"\.(entry|func)\b", head):
            for variable in declarations(head, self._line(start)):
                self.variables[variable.name] = variable
            return end + 1
        function = self._heading(head, self._line(start))
        if text[end] == ";":
            self.functions.setdefault(function.name, function)
            return end + 1
        stop = self._body(function, end + 1)
        self.functions[function.name] = function
        return stop

    def _heading(self, head: str, line: int) -> Function:
        match = re.match(r"(?:\.\w+\s+)*?\.(entry|func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?(.*)$", head, re.S)
        if not match:
            raise SyntaxFault("heading of a function not understood", line=line, text=head.strip())
        kind, results, name, parameters, rest = match.groups()
        plain = [re.sub(r"\.ptr\b(\s+\.(global|shared|local|const))?(\s+\.align\s+\d+)?", "", p or "")
                 for p in (results, parameters)]
        lists = [[v for d in split(p) for v in declarations(d, line)] for p in plain]
        for variable in lists[0] + lists[1]:
            if variable.space != "param":
                raise UnsupportedInstruction(f"parameter {variable.name} in a register", line=line, text=head.strip())
        limits = {m.group(1): tuple(int(x) for x in re.findall(r"\d+", m.group(2)))
                  for m in re.finditer(r"\.(maxntid|reqntid)\s+([\d\s,]+)", rest)}
        return Function(name, kind == "entry", *lists, line, limits)

    # --- bodies ------------------------------------------------------------------------------------------------------

    def _body(self, function: Function, position: int) -> int:
        """Read the statements of a function up to its closing brace; returns where that ends."""
        function.body = []
        scopes: list[dict[str, str]] = [{}]
        for variable in function.results + function.parameters:
            scopes[0][variable.name] = self._storage(function, variable)
        self._number = 0
        waiting: str | None = None
        while True:
            match = _STATEMENT.match(self._text, position)
            if not match:
                raise SyntaxFault(f"function {function.name} does not end", line=function.line)
            start = position + len(match.group(0)) - len(match.group(0).lstrip())
            position = match.end()
            if match.group("brace") == "{":
                scopes.append({})
            elif match.group("brace"):
                scopes.pop()
                if not scopes:
                    break
            elif match.group("label"):
                waiting = match.group("label")
                function.labels[waiting] = len(function.body)
            else:
                text = " ".join(match.group("text").split())
                if text.startswith("."):
                    if text.startswith(".branchtargets"):
                        function.tables[waiting] = split(text[len(".branchtargets"):])
                    elif text.startswith(".callprototype"):
                        pass        # a call through an address names it, and is refused there
                    elif not text.startswith((".pragma", ".maxntid", ".minnctapersm", ".reqntid", ".maxnreg")):
                        self._declare(function, text, self._line(start), scopes[-1])
                elif text:
                    function.body.append(self._instruction(text, self._line(start), scopes))
        if not function.body or function.body[-1].opcode not in ("ret", "exit", "bra") or function.body[-1].guard \
                or len(function.body) in function.labels.values():
            function.body.append(Instruction("ret", (), [], None, False, self._line(position - 1), "}"))
        return position

    @staticmethod
    def _storage(function: Function, variable: Variable) -> str:
        function.storage.append(SIZES[variable.kind] * (1 if variable.count is None else variable.count))
        return f"&{len(function.storage) - 1}"

    def _declare(self, function: Function, text: str, line: int, scope: dict[str, str]) -> None:
        for variable in declarations(text, line):
            if variable.space == "reg":
                names = [f"{variable.name}{k}" for k in range(variable.numbered)] if variable.numbered else [variable.name]
                for name in names:
                    scope[name] = f"#{len(function.registers)}"
                    function.registers.append(variable.kind)
            elif variable.space == "param":
                scope[variable.name] = self._storage(function, variable)
            else:
                self._number += 1
                plain = variable.name
                variable.name = f"{function.name}:{plain}:{self._number}"
                scope[plain] = f"@{variable.name}"
                function.variables.append(variable)

    def _instruction(self, text: str, line: int, scopes: list[dict[str, str]]) -> Instruction:
        match = _INSTRUCTION.match(text)
        shown = text.replace(_OPEN, "{").replace(_CLOSE, "}") + ";"
        if not match:
            raise SyntaxFault("statement not understood", line=line, text=shown)
        negated, guard, opcode, modifiers, rest = match.groups()

        def resolve(word):
            for scope in reversed(scopes):
                if word in scope:
                    return scope[word]
            return f"@{word}" if word in self.variables else word
        operands = split(rest)
        if opcode not in ("bra", "brx", "call"):
            operands = [_NAME.sub(lambda m: resolve(m.group(0)), operand) for operand in operands]
        elif opcode == "call":
            operands = [_NAME.sub(lambda m: resolve(m.group(0)), o) if o.startswith("(") else o for o in operands]
        elif opcode == "brx":
            operands[0] = resolve(operands[0])
        if guard is not None and not (guard := resolve(guard)).startswith("#"):
            raise SyntaxFault(f"predicate {guard} is not declared", line=line, text=shown)
        words = tuple(w for w in re.split(r"\.|::", modifiers) if w)
        return Instruction(opcode, words, operands, guard, bool(negated), line, shown, self._source(line))


def split(text: str) -> list[str]:
    """The parts between commas that are outside brackets of any kind; brackets are not nested here."""
    return [part.strip() for part in _COMMA.split(text)] if text.strip() else []


def elements(operand: str) -> list[str]:
    """The elements of a vector operand `{a, b}`, or the operand alone."""
    if operand.startswith(_OPEN):
        return [e.strip() for e in operand[1:-1].split(",")]
    return [operand]


def declarations(text: str, line: int) -> list[Variable]:
    """The variables of one declaration: `.visible .shared .align 4 .b8 x[128] = {...}`, `.reg .b32 %r<9>, a, b`."""
    text = " ".join(text.split())
    prefix = re.match(r"(?:\.\w+\s+(?:\d+\s+)?)*", text).group(0)
    found = []
    for part in split(text[len(prefix):]) if prefix else []:
        match = _DECLARATION.match(prefix + part)
        if not match or match.group(3) not in SIZES:
            break
        words, align, kind, name, numbered, array, values = match.groups()
        inner = re.search(r"\.align\s+(\d+)", words)
        space = next((s for s in ("reg", "param", "global", "const", "shared", "local") if f".{s} " in words), None)
        if space is None:
            break
        count = 1
        for size in re.findall(r"\[\s*(\d*)\s*\]", array):
            count = None if size == "" else (count or 1) * int(size)
        if values is not None and count is None:
            count = len(elements(values))
        found.append(Variable(space, int(align or (inner and inner.group(1)) or SIZES[kind]), kind, name, count, values,
                              int(numbered) if numbered else None, ".extern" in words))
    else:
        if found:
            return found
    raise SyntaxFault("declaration not understood", line=line, text=text)
