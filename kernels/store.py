"""The store of compiled kernels: one file an entry, named by a hash of everything that decides its machine code.

An entry is machine code with a small JSON header. Writers work aside and rename, so that readers never see half an entry;
readers check the header, the length and the checksum, so that a truncated, changed or renamed file counts as missing.
The folder belongs to the user alone (mode 0700): what somebody else could have written is never loaded. Where no folder
can be had, the store lives in memory for the process. Called by `kernels.cpu.native`; knows nothing of Numba or LLVM.
"""
from __future__ import annotations

import functools
import importlib.util
import os
import stat
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path  # imported where it is used: with urllib it takes 5 ms

MAGIC = b"engine-kernel-1\n"
_memory: dict[str, tuple[dict, bytes]] = {}


# --- identity: what decides an entry's machine code -------------------------------------------------------------------

@functools.cache
def _blake2b() -> type:
    """BLAKE2b from its own module: `hashlib` would load OpenSSL first, 5 ms of every start."""
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b


def digest(*parts: str | bytes) -> str:
    """A short content hash of the parts, each framed by its length so that no two lists collide."""
    state = _blake2b()(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def identity(value: object, seen: dict[int, int] | None = None) -> str:
    """A text that changes whenever the code of a function changes, or of any Python function or constant that it uses.

    Functions are followed through globals and closures within this project and the user's own modules; everything from
    elsewhere counts by its name, because the versions of NumPy and Numba are part of the key already.
    """
    seen = {} if seen is None else seen
    if isinstance(value, types.FunctionType):
        if id(value) in seen:
            return f"<function {seen[id(value)]}>"
        seen[id(value)] = len(seen)
        if value.__module__ and value.__module__.split(".")[0] in ("numpy", "numba", "math", "cmath"):
            return f"{value.__module__}.{value.__qualname__}"
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        used = [value.__globals__[n] for n in _names(value.__code__) if n in value.__globals__]
        return f"{_code(value.__code__)}{[identity(v, seen) for v in used + closure + list(value.__defaults__ or ())]}"
    if isinstance(value, types.CodeType):
        return _code(value)
    scalar = getattr(value, "scalar", None)
    if isinstance(scalar, types.FunctionType):          # an operator of the book: its scalar function is what is used
        return identity(scalar, seen)
    if isinstance(value, types.ModuleType):
        return f"<module {value.__name__}>"
    if isinstance(value, (tuple, list)):
        return f"({','.join(identity(v, seen) for v in value)})"
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return f"{type(value).__name__}:{value!r}"


def _names(code: types.CodeType) -> list[str]:
    inner = [n for c in code.co_consts if isinstance(c, types.CodeType) for n in _names(c)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _code(code: types.CodeType) -> str:
    constants = [_code(c) if isinstance(c, types.CodeType) else
                 repr(sorted(c, key=repr)) if isinstance(c, frozenset) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{constants}{code.co_names}{code.co_varnames}"


@functools.cache
def machine() -> str:
    """Everything but the source that decides machine code: versions, processor and its features."""
    import platform

    import numpy
    from llvmlite import __version__ as llvmlite_version
    from llvmlite import binding as llvm

    return "|".join([
        sys.version, platform.machine(), sys.platform, _numba_version(), llvmlite_version, numpy.__version__,
        llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(),
        os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", ""), sources(),
    ])


def _numba_version() -> str:
    """Numba's version without importing it; its metadata folder's name tells, ten times faster than importlib.metadata."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("numba is not installed; `pip install numba` (the engine compiles its kernels with it)")
    from pathlib import Path
    found = sorted(Path(spec.origin).parent.parent.glob("numba-*.dist-info"))
    return found[0].name if len(found) == 1 else _metadata_version()


def _metadata_version() -> str:
    from importlib.metadata import version
    return version("numba")


@functools.cache
def sources() -> str:
    """Hash of the templates, the lowering and libm, whose text reaches every kernel."""
    from pathlib import Path
    here = Path(__file__).parent
    shared = [here / name for name in ("lowering.py", "scalars.py", "source.py")]
    files = sorted([*here.glob("libm*.py"), *shared, *(here / "cpu").glob("*.py")])
    return digest(*(f.read_bytes() for f in files if f.exists()))


# --- the folder -------------------------------------------------------------------------------------------------------

@functools.cache
def folder() -> Path | None:
    """The folder of the store, made if need be; None where none can be had or trusted.

    `ENGINE_CACHE_DIR` names it; otherwise the platform's cache folder of the user.
    """
    from pathlib import Path
    named = os.environ.get("ENGINE_CACHE_DIR")
    if named:
        candidates = [Path(named)]
    elif sys.platform == "win32":
        candidates = [Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "njit-engine"]
    elif sys.platform == "darwin":
        candidates = [Path.home() / "Library" / "Caches" / "njit-engine"]
    else:
        candidates = [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "njit-engine"]
    for path in candidates:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _private(path, own=True) and os.access(path, os.R_OK | os.W_OK | os.X_OK):
                return path
        except OSError:
            continue
    return None


def _private(path: Path, own: bool = False) -> bool:
    """True when only the user can have written the path; with `own`, an owned folder is first closed to others."""
    if os.name != "posix":
        return True
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        info = path.stat()
    if info.st_uid != os.geteuid():
        return False
    if own and info.st_mode & 0o077:
        path.chmod(0o700)
        return True
    return not info.st_mode & 0o022


# --- reading and writing ----------------------------------------------------------------------------------------------

def load(key: str) -> tuple[dict, bytes] | None:
    """The header and code stored under `key`, or None when there is no sound entry."""
    if key in _memory:
        return _memory[key]
    base = folder()
    if base is None:
        return None
    path = base / f"{key}.kernel"
    try:
        if not _private(path):
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return _parse(key, data)


def _parse(key: str, data: bytes) -> tuple[dict, bytes] | None:
    if not data.startswith(MAGIC):
        return None
    import json  # here and below: it takes 1.5 ms, and a start without a kernel has no use for it
    end = data.find(b"\n", len(MAGIC))
    if end < 0:
        return None
    try:
        header = json.loads(data[len(MAGIC):end])
    except ValueError:
        return None
    code = data[end + 1:]
    if not isinstance(header, dict) or header.get("key") != key or header.get("sum") != digest(json.dumps(
            header.get("about"), sort_keys=True), code):
        return None
    return header["about"], code


def save(key: str, about: dict, code: bytes) -> None:
    """Keep an entry; a full or vanished disk only means that the process keeps it in memory."""
    base = folder()
    if base is None:
        _memory[key] = (about, code)
        return
    import json
    import tempfile
    header = {"key": key, "about": about, "sum": digest(json.dumps(about, sort_keys=True), code)}
    name = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{key[:12]}-", suffix=".tmp", dir=base)   # mkstemp makes it 0600
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + json.dumps(header).encode() + b"\n" + code)
        os.replace(name, base / f"{key}.kernel")
    except OSError:
        _memory[key] = (about, code)
        if name:
            try:
                os.unlink(name)
            except OSError:
                return
