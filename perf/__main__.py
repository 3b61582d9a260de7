"""Question: what does each case cost in the engine, as a ratio to NumPy, PyTorch, JAX and others, and which bars are met?

Here: the command line and the order of events. Timing is in `harness.py`, the libraries in `libraries.py`, printing in
`report.py`, the cases in `cases/`. Users call it as `python -m perf`; `perf/run.py` calls `main` too.

    python -m perf --list                        # groups, cases and bars
    python -m perf --case tiny --case exp        # cases whose "group: name" contains one of the words
    python -m perf --gpu                         # bytes, coalescing, conflicts and registers of CUDA kernels; needs no GPU
    python -m perf --quick --json figures.json   # fewer and shorter samples; every sample goes into the file
"""
import argparse
import os
import sys


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; `arguments` are those of the process when None."""
    about = "Measure the engine beside NumPy, PyTorch and JAX."
    parser = argparse.ArgumentParser(prog="python -m perf", description=about)
    parser.add_argument("--case", action="append", default=[], metavar="NAME",
                        help="only cases whose group and name contain NAME (repeatable)")
    parser.add_argument("--list", action="store_true", help="list the cases with their bars and stop")
    parser.add_argument("--json", metavar="FILE", help="also write every sample to FILE")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each library (default 11, quick 3)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each library (default 2)")
    parser.add_argument("--peer", action="append", default=[], choices=("numpy", "torch", "inductor", "jax", "pytensor", "scipy",
                        "optimistix"),
                        help="only this peer beside the engine (repeatable)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples: a first impression")
    parser.add_argument("--gpu", action="store_true", help="what CUDA kernels move and issue, counted without a GPU, and stop")
    parser.add_argument("--verbose", action="store_true", help="add warm-up times (compiling included)")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.rounds is not None and options.rounds < 1):
        parser.error("--threads and --rounds start at 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for and print it; returns 0 unless no case has that name."""
    options = parse(arguments)
    if options.gpu:
        from perf import gpu
        return gpu.main()
    # Libraries read these when they are first imported, which is why no import at the top of this file reaches NumPy.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ[name] = str(options.threads)
    # PyTorch's OpenMP threads wait for one another by spinning, some 5 ms by default. When they share a core, because
    # another program has the other one, an addition of 0.1 ms takes 8 ms: two ticks of the scheduler. With some 0.15 ms
    # of spinning PyTorch keeps its speed on a quiet machine and loses far less on a busy one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    from perf import harness, libraries, report
    from perf.cases import GROUPS

    groups = harness.select(GROUPS, options.case)
    if not groups:
        print("no case has a name containing " + " or ".join(map(repr, options.case)) + "; see --list", file=sys.stderr)
        return 2
    if options.list:
        print(report.listing(groups))
        return 0

    peers = {peer for group in groups for peer in group.peers}
    shelf = libraries.load_all(options.threads, peers & set(options.peer) if options.peer else peers)
    effort = harness.Effort.quick() if options.quick else harness.Effort()
    if options.rounds:
        effort.rounds = effort.process_rounds = options.rounds
    facts = report.facts(shelf, effort)
    print(report.header(facts), flush=True)
    results = []
    try:
        for group in groups:
            columns = group.columns(shelf)
            print(report.group_head(group, columns, options.verbose), flush=True)
            seen = []
            for case in group.cases:
                seen.append(harness.run(case, columns, effort))
                print(report.row(case, seen[-1], columns, options.verbose), flush=True)
            results.append((group, seen))
            print(report.group_foot(group, seen), flush=True)
    except KeyboardInterrupt:
        print("\nstopped; what was measured until here is kept")
    print(report.summary(results))
    if options.json:
        report.write_json(options.json, facts, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
