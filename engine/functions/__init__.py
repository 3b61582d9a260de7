"""Public functions and methods, by family: what PyTorch's names mean, written over the operators of the book.

A file here settles arguments (dims, shapes, dtypes, out=) and composes; numbers are computed in `kernels`.
"""
import importlib
import pkgutil

from .. import dispatch
from . import derived

dispatch.attach_all()
for _module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
    importlib.import_module(f"{__name__}.{_module.name}")
derived.install()
