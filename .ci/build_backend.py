"""setuptools' build backend, which also compiles the sources to bytecode on `pip install -e .`.

pip compiles what it copies, and an editable install copies nothing: the first import of each process would parse 100 files (0.2 s)
wherever Python is told not to write bytecode (PYTHONDONTWRITEBYTECODE) or may not.
"""
import compileall
import pathlib

from setuptools.build_meta import *  # noqa: F403
from setuptools.build_meta import build_editable as _build_editable


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    root = pathlib.Path(__file__).parent.parent
    for room in ("engine", "kernels"):
        compileall.compile_dir(root / room, quiet=1)
    return _build_editable(wheel_directory, config_settings, metadata_directory)
