"""The book of operators, by family. Importing this package fills `kernels.book.BOOK`; a family's file is all that an operator needs."""
import importlib
import pkgutil

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
    importlib.import_module(f"{__name__}.{_module.name}")

from ..symbol import _python_operators  # noqa: E402

_python_operators()
