"""`python perf/run.py` does what `python -m perf` does, from any folder.

Only the import path is set here; options and the order of events are in `perf/__main__.py`.
"""
import sys
from pathlib import Path

# Python put this folder first on the path; the project's root belongs there, for `perf` and `engine` alike.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from perf.__main__ import main  # noqa: E402  (the path has to be set first)

if __name__ == "__main__":
    sys.exit(main())
