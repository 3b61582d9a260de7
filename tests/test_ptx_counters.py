"""What a launch costs, as the PTX interpreter counts it: sectors, coalescing, bank conflicts, instructions, lines."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_snippets import array, kernel, launch, line_of

from kernels.cuda import ptx
from kernels.cuda.ptx.counters import conflicts_of, rows_of_warps, sectors_of

COPY = """  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [out]; ld.param.u32 %r5, [n]; ld.param.u32 %r6, [stride];
  setp.ge.u32 %p1, %r2, %r5;
  @%p1 bra $END;
  mul.lo.u32 %r7, %r2, %r6;
  mad.wide.u32 %rd3, %r7, 4, %rd1;
  mad.wide.u32 %rd4, %r2, 4, %rd2;
  ld.global.f32 %f1, [%rd3];
  fma.rn.f32 %f1, %f1, %f1, %f1;
  st.global.f32 [%rd4], %f1;
$END:"""
PARAMETERS = ".param .u64 x, .param .u64 out, .param .u32 n, .param .u32 stride"


def copy(n: int, stride: int = 1, **options):
    return launch(kernel(COPY, PARAMETERS), -(-n // 128), 128, np.ones(n * stride, np.float32), np.zeros(n, np.float32), n, stride,
                  **options)[0]


def test_a_contiguous_copy_moves_no_byte_too_many():
    counts = copy(1024)
    assert counts.bytes == counts.distinct == {"load": 4096, "store": 4096, "atomic": 0}
    assert counts.sectors == {"load": 128, "store": 128, "atomic": 0} and counts.moved == 8192
    assert counts.accesses["load"] == counts.coalesced["load"] == 32 and counts.coalescing == 1.0
    assert counts.flops == 2048 and counts.intensity == 0.25
    assert counts.issued == 32 * 17 and counts.executed == 1024 * 17


def test_a_ragged_end():
    """1000 numbers: the last warp has 8 lanes inside, and three more warps execute nothing behind the guard."""
    counts = copy(1000)
    assert counts.bytes["load"] == 4000 and counts.sectors["load"] == 125 and counts.coalescing == 1.0
    assert counts.executed == 1024 * 11 + 1000 * 6 and counts.issued == 32 * 11 + 32 * 6


@pytest.mark.parametrize("stride,sectors", [(0, 32), (2, 256), (8, 1024), (32, 1024)])
def test_strided_reads(stride, sectors):
    text = kernel(COPY, PARAMETERS)
    counts = launch(text, 8, 128, np.ones(max(1, 1024 * stride), np.float32), np.zeros(1024, np.float32), 1024, stride)[0]
    assert counts.sectors["load"] == sectors and counts.bytes["load"] == 4096
    assert counts.coalesced["load"] == (32 if stride == 0 else 0) and counts.coalesced["store"] == 32
    assert counts.distinct["load"] == (32 * 4 if stride == 0 else 4096)
    lost = {line_of(text, "ld.global.f32"): 32} if stride else {}
    assert counts.uncoalesced == lost


def test_counts_add_up():
    one, two = copy(1024), copy(100, 3)
    both = one + two
    assert both.launches == 2 and both.issued == one.issued + two.issued and both.sectors["load"] == 128 + two.sectors["load"]
    assert sum(both.lines.values()) == both.issued


def test_without_counting():
    assert copy(1024, count=False).issued == 0


@given(st.lists(st.integers(0, 300), min_size=32, max_size=32), st.sampled_from([1, 2, 4, 8, 16]))
@settings(max_examples=150, deadline=None)
def test_sectors_and_conflicts_by_counting(places, width):
    """Against sets: sectors that hold a byte of the access; the most words that one bank must give in a turn."""
    address = np.array(places) * width
    distinct, sectors, good = sectors_of(address[None, :], width)
    touched = {a + k for a in address.tolist() for k in range(width)}
    assert distinct == len(touched) and sectors == len({b // 32 for b in touched})
    dense = max(touched) - min(touched) + 1 == len(touched)
    assert good == (dense or sectors <= -(-len(touched) // 32))
    turns = 0
    per_turn = 32 if width <= 4 else 128 // width
    for first in range(0, 32, per_turn):
        words = {w for a in address[first:first + per_turn].tolist() for w in range(a // 4, (a + width - 1) // 4 + 1)}
        turns += max(sum(w % 32 == bank for w in words) for bank in range(32)) - 1
    assert conflicts_of(address[None, :], width) == turns


def test_rows_of_warps_repeat_lanes_that_take_no_part():
    lane, warp = np.arange(80) % 40 % 32, np.arange(80) // 40 * 2 + np.arange(80) % 40 // 32      # two blocks of 40 threads
    rows = rows_of_warps(np.arange(80), None, warp, lane)
    assert rows.shape == (4, 32) and rows[1].tolist() == [*range(32, 40), *[32] * 24] and rows[2, 0] == 40
    rows = rows_of_warps(np.array([7, 8]), np.array([3, 75]), warp, lane)
    assert rows.tolist() == [[7] * 32, [8] * 32]


@pytest.mark.parametrize("width,conflicts", [(32, 31 * 8), (33, 0), (34, 8), (36, 24)])
def test_columns_of_a_tile(width, conflicts):
    """A column of a tile of 32 rows: all in one bank, unless the rows are one word longer."""
    text = kernel(f"""  mov.u32 %r5, tile;
  mul.lo.u32 %r6, %r1, {4 * width};
  add.u32 %r6, %r6, %r5;
  st.shared.u32 [%r6], %r1;
  bar.sync 0;
  ld.shared.u32 %r10, [%r6];""", outside=f".shared .align 4 .b8 tile[{128 * width}];\n")
    counts, = launch(text, 4, 32)
    assert counts.bank_conflicts == conflicts and counts.shared_accesses == 8 and counts.shared_bytes == 1024
    where = [line_of(text, "st.shared"), line_of(text, "ld.shared")]
    assert counts.conflicts == (dict.fromkeys(where, conflicts // 2) if conflicts else {})


def test_lines_that_never_ran_and_branches_that_went_one_way():
    text = kernel("""  setp.gt.u32 %p1, %r2, 100;
  @%p1 bra $RARE;
  add.u32 %r5, %r2, 1;
  setp.gt.u32 %p2, %r2, 90;
  @%p2 add.u32 %r5, %r5, 7;
  bra $END;
$RARE:
  sub.u32 %r5, %r2, 1;
$END:""")
    counts, = launch(text, 2, 32)
    assert set(counts.unexecuted) == {line_of(text, "%r5, 7"), line_of(text, "sub.u32")}
    assert counts.one_sided == {line_of(text, "bra $RARE"): "never taken"}
    assert counts.lines[line_of(text, "%r2, 1;")] == 2
    more, = launch(text, 4, 32)
    assert not more.unexecuted and not more.one_sided and not (counts + more).unexecuted and not (counts + more).one_sided
    assert launch(text.replace("setp.gt", "setp.ge").replace(", 100", ", 0"), 1, 32)[0].one_sided == {
        line_of(text, "bra $RARE"): "always taken"}


def test_a_million_threads_are_few_steps():
    """The interpreter works on arrays: a million threads need as few Python steps as a chunk does, for each chunk."""
    n = 1 << 20
    memory = ptx.Memory()
    x, out = array(memory, np.ones(n, np.float32)), memory.allocate(4 * n)
    program = ptx.load(kernel(COPY, PARAMETERS))
    counts = program.launch("k", n // 256, 256, [x, out, n, 1], memory, limit=32 * 20)
    assert counts.sectors["load"] == n // 8 and (memory.read(out, 4 * n).view(np.float32) == 2).all()
