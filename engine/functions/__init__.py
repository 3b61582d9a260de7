"""Public functions and methods, by family: what PyTorch's names mean, written over the operators of the book.

A file here settles arguments (dims, shapes, dtypes, out=) and composes; numbers are computed in `kernels`.
"""
import importlib
import os

from .. import dispatch
from . import derived

dispatch.attach_all()
for _file in sorted(os.listdir(os.path.dirname(__file__))):
    if _file.endswith(".py") and _file != "__init__.py":
        importlib.import_module(f"{__name__}.{_file[:-3]}")
derived.install()
