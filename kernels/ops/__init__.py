"""The book of operators, by family. Importing this package fills `kernels.book.BOOK`; an operator needs its family's file only."""
import importlib
import os

for _file in sorted(os.listdir(os.path.dirname(__file__))):      # pkgutil would cost 10 ms of every start
    if _file.endswith(".py") and _file != "__init__.py":
        importlib.import_module(f"{__name__}.{_file[:-3]}")

from ..symbol import _python_operators  # noqa: E402

_python_operators()
