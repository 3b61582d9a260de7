"""Bugs planted in PTX kernels: each is found, and the message names kernel, block, thread and line."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_snippets import kernel, launch, line_of

from kernels.cuda import ptx
from kernels.cuda.ptx.races import Tracker

SUM = """  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [out]; ld.param.u32 %r5, [n];
  mov.u32 %r6, tile;
  mad.lo.u32 %r7, %r1, 4, %r6;
  mov.f32 %f1, 0f00000000;
  setp.ge.u32 %p1, %r2, %r5;
  @%p1 bra $STORE;
  mad.wide.u32 %rd3, %r2, 4, %rd1;
  ld.global.f32 %f1, [%rd3];
$STORE:
  st.shared.f32 [%r7], %f1;
  bar.sync 0; // first
  mov.u32 %r8, 32;
$LOOP:
  setp.ge.u32 %p2, %r1, %r8;
  @%p2 bra $MEET;
  mad.lo.u32 %r9, %r8, 4, %r7;
  ld.shared.f32 %f2, [%r9];
  ld.shared.f32 %f3, [%r7];
  add.f32 %f3, %f3, %f2;
  st.shared.f32 [%r7], %f3;
$MEET:
  bar.sync 0; // second
  shr.u32 %r8, %r8, 1;
  setp.ne.u32 %p3, %r8, 0;
  @%p3 bra $LOOP;
  setp.ne.u32 %p4, %r1, 0;
  @%p4 bra $END;
  ld.shared.f32 %f4, [tile];
  mad.wide.u32 %rd4, %r3, 4, %rd2;
  st.global.f32 [%rd4], %f4;
$END:"""
PARAMETERS = ".param .u64 x, .param .u64 out, .param .u32 n"
TILE = ".shared .align 16 .b8 tile[256];\n"


def total(text: str, n: int = 150, **options):
    """Run a sum of n numbers, 64 in a block."""
    return launch(text, 3, 64, np.arange(n, dtype=np.float32), np.zeros(3, np.float32), n, **options)


def test_the_sum_without_bugs():
    counts, _, out = total(kernel(SUM, PARAMETERS, TILE))
    assert out.tolist() == [sum(range(64 * k, min(150, 64 * k + 64))) for k in range(3)]
    assert not counts.unexecuted


PLANTED = [
    ("missing barrier", "  bar.sync 0; // first\n", "", ptx.RaceError, "reads what another thread has written",
     "ld.shared.f32 %f2"),
    ("missing barrier in the loop", "  bar.sync 0; // second\n", "", ptx.RaceError, "race", "ld.shared.f32"),
    ("missing guard", "  @%p1 bra $STORE;\n", "", ptx.MemoryFault, r"out of bounds: offset 600 of an allocation of 600 bytes",
     "ld.global.f32"),
    ("wrong guard", "setp.ge.u32 %p1, %r2, %r5", "setp.gt.u32 %p1, %r2, %r5", ptx.MemoryFault, "out of bounds", "ld.global.f32"),
    ("wrong stride", "mad.wide.u32 %rd3, %r2, 4, %rd1", "mad.wide.u32 %rd3, %r2, 6, %rd1", ptx.MemoryFault,
     "misaligned load of 4 bytes",
     "ld.global.f32"),
    ("stride too wide", "mad.wide.u32 %rd3, %r2, 4, %rd1", "mad.wide.u32 %rd3, %r2, 8, %rd1", ptx.MemoryFault, "out of bounds",
     "ld.global.f32"),
    ("too many in the tree", "mov.u32 %r8, 32", "mov.u32 %r8, 64", ptx.MemoryFault, "offset 256 of 256 bytes of shared memory",
     "ld.shared.f32 %f2"),
    ("uninitialised shared memory", "st.shared.f32 [%r7], %f1", "mov.f32 %f5, %f1", ptx.UninitialisedRead, "nobody has written",
     "ld.shared.f32 %f2"),
    ("barrier in divergent code", "  @%p2 bra $MEET;", "  @%p2 bra $SKIP;", ptx.BarrierError, "barrier in divergent code",
     "bar.sync 0; // second"),
    ("thread that ends before the barrier", "  @%p1 bra $STORE;", "  @%p1 exit;", ptx.BarrierError,
     "has ended and never reaches it",
     "bar.sync 0; // first"),
    ("write by all threads", "  @%p4 bra $END;\n", "  mov.b32 %f4, %r1; bra $W;\n", ptx.RaceError,
     "write different values to the same",
     "st.global.f32"),
    ("write to the input's end", "mad.wide.u32 %rd4, %r3, 4, %rd2", "mad.wide.u32 %rd4, %r3, 4, %rd1", ptx.RaceError,
     "writes what another thread reads", "st.global.f32"),
]


@pytest.mark.parametrize("name,old,new,kind,words,where", PLANTED, ids=[p[0] for p in PLANTED])
def test_planted_bugs_are_found(name, old, new, kind, words, where):
    body = SUM.replace(old, new)
    assert body != SUM
    if "$SKIP" in new:
        body = body.replace("  shr.u32 %r8, %r8, 1;", "$SKIP:\n  shr.u32 %r8, %r8, 1;")
    if "$W" in new:
        body = body.replace("  mad.wide.u32 %rd4", "$W:\n  mad.wide.u32 %rd4")
    text = kernel(body, PARAMETERS, TILE)
    with pytest.raises(kind, match=words) as caught:
        total(text)
    error = caught.value
    assert error.kernel == "k" and len(error.block) == len(error.thread) == 3
    assert error.line in {k for k, line in enumerate(text.splitlines(), 1) if where in line}
    assert f"kernel k, block {error.block}, thread {error.thread}, PTX line {error.line} `" in str(error)


def simple(body: str, *arguments, grid: int = 1, block: int = 32, outside: str = TILE, **options):
    names = ["out", "x", "y"][:len(arguments)]
    text = kernel(body, ", ".join(f".param .u64 {n}" for n in names), outside)
    return text, lambda: launch(text, grid, block, *arguments, **options)


MORE = [
    ("misaligned vector load", "ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r2, 4, %rd1;\n"
     "  ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1];",
     ptx.MemoryFault, "misaligned load of 16 bytes", (0, 0, 0), (1, 0, 0)),
    ("shuffle from an absent lane", "setp.gt.u32 %p1, %r1, 20; @%p1 exit;\n  shfl.sync.down.b32 %r10, %r1, 4, 31, 0x1fffff;",
     ptx.WarpError, "shuffle from lane 21, which takes no part", (0, 0, 0), (17, 0, 0)),
    ("lanes that never come", "setp.gt.u32 %p1, %r1, 20; @%p1 bra $B;\n  shfl.sync.bfly.b32 %r10, %r1, 1, 31, -1;\n"
     "  bra $C;\n$B:\n  bar.sync 0;\n$C:", ptx.WarpError, "never come here", (0, 0, 0), (0, 0, 0)),
    ("not in the mask", "\n  vote.sync.ballot.b32 %r10, 1, 0xff;", ptx.WarpError, "not in the member mask", (0, 0, 0), (8, 0, 0)),
    ("trap", "setp.ne.u32 %p1, %r1, 5;\n  @%p1 bra $L; trap;\n$L:", ptx.Trap, "stopped itself", (0, 0, 0), (5, 0, 0)),
    ("two barriers", "setp.lt.u32 %p1, %r1, 7; @%p1 bra $A;\n  bar.sync 0; bra $E;\n$A:\n  bar.sync 0;\n$E:", ptx.BarrierError,
     "wait at different barriers", (0, 0, 0), (7, 0, 0)),
    ("null pointer", "mov.u64 %rd1, 0;\n  ld.global.u32 %r10, [%rd1];", ptx.MemoryFault, "the null pointer", (0, 0, 0), (0, 0, 0)),
    ("wild pointer", "mov.u64 %rd1, 12345678;\n  ld.u16 %r10, [%rd1];", ptx.MemoryFault, "in no allocation", (0, 0, 0), (0, 0, 0)),
    ("before the beginning", "ld.param.u64 %rd1, [out];\n  ld.global.u32 %r10, [%rd1+-4];", ptx.MemoryFault, "in no allocation",
     (0, 0, 0), (0, 0, 0)),
    ("write to a constant", "mov.u64 %rd1, table;\n  st.global.u32 [%rd1], %r1;", ptx.MemoryFault, "read-only", (0, 0, 0), (0, 0,
        0)),
    ("index of a switch", "$T: .branchtargets $A, $A;\n  brx.idx %r1, $T;\n$A:", ptx.PtxError, "beyond the table", (0, 0, 0), (2, 0,
        0)),
    ("uninitialised local memory", ".local .align 4 .b8 mine[16];\n  ld.local.u32 %r10, [mine+4];", ptx.UninitialisedRead,
     "offset 4 of local memory", (0, 0, 0), (0, 0, 0)),
    ("local memory out of bounds", ".local .align 4 .b8 mine[16]; mov.u64 %rd1, mine; mad.wide.u32 %rd1, %r1, 4, %rd1;\n"
     "  st.local.u32 [%rd1], %r1;", ptx.MemoryFault, "offset 16 of 16 bytes of local memory", (0, 0, 0), (4, 0, 0)),
    ("partly written", "mov.u32 %r5, tile; mad.lo.u32 %r6, %r1, 4, %r5; st.shared.u16 [%r6], 7;\n  ld.shared.u32 %r10, [%r6];",
     ptx.UninitialisedRead, "read of 4 bytes that nobody has written, offset 0 of shared", (0, 0, 0), (0, 0, 0)),
]


@pytest.mark.parametrize("name,body,kind,words,block,thread", MORE, ids=[m[0] for m in MORE])
def test_more_planted_bugs(name, body, kind, words, block, thread):
    text, run = simple("  " + body, np.zeros(64, np.float32), outside=TILE + ".const .align 4 .u32 table[2] = {1, 2};\n")
    with pytest.raises(kind, match=words) as caught:
        run()
    assert (caught.value.block, caught.value.thread) == (block, thread)
    assert caught.value.text.rstrip(";") in text.splitlines()[caught.value.line - 1]


def test_use_after_free_and_beyond_a_living_neighbour():
    text = kernel("  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r2, 4, %rd1;\n  st.global.u32 [%rd1], %r2;", ".param .u64 out")
    memory = ptx.Memory()
    first, second = memory.allocate(128), memory.allocate(128)
    program = ptx.load(text)
    program.launch("k", 1, 32, [first], memory)
    with pytest.raises(ptx.MemoryFault, match="offset 128 of an allocation of 128 bytes"):
        program.launch("k", 5, 32, [first], memory)     # would reach the second one if there were no check
    memory.free(first)
    with pytest.raises(ptx.MemoryFault, match="use after free: offset 0 of an allocation of 128 bytes that was freed"):
        program.launch("k", 1, 32, [first], memory)
    program.launch("k", 1, 32, [second], memory)


def test_uninitialised_global_memory():
    text = kernel("  ld.param.u64 %rd1, [x]; mad.wide.u32 %rd1, %r2, 4, %rd1;\n  ld.global.u32 %r10, [%rd1];", ".param .u64 x")
    memory = ptx.Memory()
    x = memory.allocate(128)
    memory.write(x, np.zeros(31, np.uint32))
    with pytest.raises(ptx.UninitialisedRead, match="offset 124 of an allocation of 128 bytes") as caught:
        ptx.load(text).launch("k", 1, 32, [x], memory)
    assert caught.value.thread == (31, 0, 0)
    ptx.load(text).launch("k", 1, 32, [x], memory, check=("races", "barriers"))
    memory.fill(x + 124, 4)
    ptx.load(text).launch("k", 1, 32, [x], memory)


# --- races ------------------------------------------------------------------------------------------------------------

GLOBAL = "  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd2, %r2, 4, %rd1; mad.wide.u32 %rd3, %r1, 4, %rd1;\n"
RACES = [
    ("blocks write different values", "  st.global.u32 [%rd3], %r2;", 2, 64, "different values|another value"),
    ("blocks write one value", "  st.global.u32 [%rd3], 5;", 2, 64, None),
    ("a block reads what another writes",
     "  st.global.u32 [%rd2], %r2;\n  xor.b32 %r5, %r2, 64;\n  mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 2, 64, "reads what another thread has written|writes what another thread reads"),
    ("a block writes what another reads", "  ld.global.u32 %r6, [%rd3];\n  st.global.u32 [%rd2], %r2;", 2, 64,
     "reads what another thread has written|writes what another thread reads"),
    ("in place", "  ld.global.u32 %r6, [%rd2];\n  add.u32 %r6, %r6, 1;\n  st.global.u32 [%rd2], %r6;", 4, 64, None),
    ("neighbour with a barrier", "  st.global.u32 [%rd2], %r2;\n"
     "  bar.sync 0;\n  xor.b32 %r5, %r2, 63; mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 2, 64, None),
    ("neighbour without", "  st.global.u32 [%rd2], %r2;\n  xor.b32 %r5, %r2, 63; mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 1, 64, "reads what another"),
    ("a barrier does not order blocks", "  st.global.u32 [%rd2], %r2;\n"
     "  bar.sync 0;\n  xor.b32 %r5, %r2, 64;\n  mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 2, 64, "reads what another|writes what another"),
    ("lanes with bar.warp.sync", "  st.global.u32 [%rd2], %r2;\n"
     "  bar.warp.sync -1;\n  xor.b32 %r5, %r2, 31; mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 1, 64, None),
    ("warps with bar.warp.sync", "  st.global.u32 [%rd2], %r2;\n"
     "  bar.warp.sync -1;\n  xor.b32 %r5, %r2, 63; mad.wide.u32 %rd4, %r5, 4, %rd1;\n"
     "  ld.global.u32 %r6, [%rd4];", 1, 64, "reads what another"),
    ("atomics only", "  red.global.add.u32 [%rd1], 1;\n  atom.global.max.u32 %r6, [%rd1], 3;", 4, 64, None),
    ("atomic, then a plain read", "  red.global.add.u32 [%rd1], 1;\n  ld.global.u32 %r6, [%rd1];", 1, 64, "changed by an atomic"),
    ("atomic, then a volatile read", "  red.global.add.u32 [%rd1], 1;\n  ld.volatile.global.u32 %r6, [%rd1];", 2, 64, None),
    ("plain write, then an atomic", "  setp.eq.u32 %p1, %r2, 0;\n  @%p1 st.global.u32 [%rd1], 0;\n  red.global.add.u32 [%rd1], 1;",
     1, 64,
     "changes by an atomic what another thread writes"),
    ("plain write, barrier, atomic", "  setp.eq.u32 %p1, %r2, 0;\n  @%p1 st.global.u32 [%rd1], 0;\n  bar.sync 0;\n"
     "  red.global.add.u32 [%rd1], 1;", 1, 64, None),
    ("bytes of one word", "  mad.wide.u32 %rd4, %r2, 1, %rd1;\n  cvt.u16.u32 %h1, %r2;\n  st.global.u8 [%rd4], %h1;\n"
     "  ld.global.u8 %h2, [%rd4];", 2,
     64, None),
    ("a wide read over narrow writes", "  mad.wide.u32 %rd4, %r2, 1, %rd1;\n  cvt.u16.u32 %h1, %r2;\n  st.global.u8 [%rd4], %h1;\n"
     "  and.b32 %r5, %r2, -8; mad.wide.u32 %rd5, %r5, 1, %rd1;\n  ld.global.u64 %rd6, [%rd5];", 1, 64, "reads what another"),
]


@pytest.mark.parametrize("name,body,grid,block,words", RACES, ids=[r[0] for r in RACES])
@pytest.mark.parametrize("together", [True, False])
def test_races_in_global_memory(name, body, grid, block, words, together, monkeypatch):
    """Also when the blocks run one after the other, in chunks of their own."""
    if not together:
        monkeypatch.setattr("kernels.cuda.ptx.machine.CHUNK", 1)
    text = kernel(GLOBAL + body, ".param .u64 out")
    if words is None:
        launch(text, grid, block, np.zeros(256, np.uint32))
        return
    with pytest.raises(ptx.RaceError, match=words) as caught:
        launch(text, grid, block, np.zeros(256, np.uint32))
    assert caught.value.line > line_of(text, "[out]")
    launch(text, grid, block, np.zeros(256, np.uint32), check=())


KINDS = ("read", "write", "atomic", "read_volatile")
CLASHES = {frozenset(p) for p in (("read", "write"), ("write",), ("atomic", "read"), ("atomic", "write"), ("read_volatile",
    "write"))}


PLACES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=3,
                  unique_by=lambda p: p[0])   # thread, cell
ACTIONS = st.one_of(st.tuples(st.sampled_from(KINDS), PLACES), st.tuples(st.just("barrier"), st.integers(0, 1)),
                    st.tuples(st.just("warp"), st.integers(0, 3)))


@given(st.lists(ACTIONS, max_size=25))
@settings(max_examples=300, deadline=None)
def test_the_race_check_against_all_pairs(actions):
    """Eight threads, two a warp, two warps a block: a race is reported at the first use that clashes with any earlier one."""
    ids = 64 + np.array([0, 1, 32, 33, 64, 65, 96, 97])     # 64 numbers a block, from 64 on
    stamp = np.zeros(8, np.int64)
    tracker = Tracker(16, 4, 64, 192)
    uses: list[tuple] = []
    for how, what in actions:
        if how == "barrier":
            stamp[4 * what:4 * what + 4] += (1 << 32) + 1
            continue
        if how == "warp":
            stamp[2 * what:2 * what + 2] += 1
            continue
        threads = np.array([t for t, _ in what])
        cells = np.array([c for _, c in what])
        if how == "write" and len(set(cells.tolist())) < len(cells):
            continue            # two writes in one step: Access compares their values
        expected = False
        for t, c in what:
            for other, cell, manner, then in uses:
                same_warp, same_block = other // 2 == t // 2, other // 4 == t // 4
                ordered = then != stamp[t] if same_warp else same_block and then >> 32 != stamp[t] >> 32
                expected |= other != t and cell == c and frozenset((how, manner)) in CLASHES and not ordered
        more = (np.ones(len(threads), bool),) if how == "write" else ()
        found = getattr(tracker, how)(cells * 4, 4, ids[threads], stamp[threads], *more)
        assert (found is not None) == expected
        if expected:
            return
        uses += [(t, c, how, stamp[t]) for t, c in what]
