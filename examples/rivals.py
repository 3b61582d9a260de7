"""Clock and rivals of the examples that write kernels; no example itself. Libraries that are not installed are left out by name."""
import importlib
import sys
import time

QUICK = "--quick" in sys.argv


def library(name, called):
    """A rival's module; None with --quick, and None with a line about it where it is not installed."""
    if QUICK:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"    {called:34} not installed (pip install {name.partition('.')[0]})")
        return None


def timed(called, function, times=3, remark=""):
    """Print the shortest of some calls after one that compiles (with times=0 this one); returns what the function returned."""
    best = float("inf")
    for call in range(1 + min(times, 1) if QUICK else 1 + times):
        begin = time.perf_counter()
        result = function()
        if call or not times:
            best = min(best, time.perf_counter() - begin)
    print(f"    {called:34} {best * 1e3:9.2f} ms   {remark}".rstrip())
    return result
