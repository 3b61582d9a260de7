"""What threads share in the PTX interpreter: memory of all spaces, atomics, warp instructions, barriers."""
from __future__ import annotations

import functools

import numpy as np
import pytest
from ptx_snippets import OUT, kernel, launch, results

# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind,count", [("u8", 1), ("u8", 4), ("b16", 2), ("b16", 4), ("u32", 1), ("f32", 2), ("f32", 4), ("f64",
    1),
                                        ("u64", 2), ("u32", 8)])
def test_vectors(kind, count, rng):
    size = {"u8": 1, "b16": 2, "u32": 4, "f32": 4, "f64": 8, "u64": 8}[kind]
    register = {"u8": "h", "b16": "h", "u32": "r", "f32": "f", "f64": "fd", "u64": "rd"}[kind]
    names = [f"%{register}{11 + k}" for k in range(count)]
    vector, order = f".v{count}" if count > 1 else "", names[::-1]
    text = kernel(f"""  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [out];
  mad.wide.u32 %rd3, %r2, {size * count}, %rd1; mad.wide.u32 %rd4, %r2, {size * count}, %rd2;
  ld.global.nc.L1::no_allocate{vector}.{kind} {'{' * (count > 1)}{', '.join(names)}{'}' * (count > 1)}, [%rd3];
  st.global.cs{vector}.{kind} [%rd4], {'{' * (count > 1)}{', '.join(order)}{'}' * (count > 1)};""", f".param .u64 x, {OUT}")
    x = rng.integers(0, 256, (128, count, size)).astype(np.uint8)
    counts, _, got = launch(text, 2, 64, x, np.zeros_like(x))
    assert np.array_equal(got, x[:, ::-1])
    assert counts.bytes["load"] == x.nbytes and counts.coalescing == 1.0 and counts.sectors["load"] == x.nbytes // 32


SHARED = ".shared .align 8 .b8 tile[512];\n.extern .shared .align 16 .b8 more[];\n"


def test_shared_and_dynamic_memory_and_generic_addresses():
    got = results("""  mov.u32 %r11, more;
  mad.lo.u32 %r12, %r1, 4, %r11;
  st.shared.u32 [%r12], %r2;
  mov.u64 %rd1, tile;
  cvta.shared.u64 %rd2, %rd1;
  mad.wide.u32 %rd3, %r1, 8, %rd2;
  mul.lo.u32 %r13, %r2, 10;
  st.u32 [%rd3], %r13;
  bar.sync 0;
  xor.b32 %r14, %r1, 63;
  mad.lo.u32 %r12, %r14, 4, %r11;
  ld.shared.u32 %r15, [%r12];
  mad.wide.u32 %rd3, %r14, 8, %rd2;
  ld.u32 %r16, [%rd3];
  isspacep.shared %p1, %rd3;
  selp.u32 %r17, 100000, 0, %p1;
  add.u32 %r10, %r15, %r16;
  add.u32 %r10, %r10, %r17;""", 3, 64, outside=SHARED, shared=256)
    assert got.tolist() == [100000 + 11 * (64 * (k // 64) + (k % 64 ^ 63)) for k in range(192)]


def test_generic_addresses_of_several_spaces_in_one_access():
    got = results("""  .local .align 4 .b8 mine[8];
  mov.u64 %rd1, mine;
  cvta.local.u64 %rd1, %rd1;
  add.u32 %r11, %r2, 500;
  st.u32 [%rd1], %r11;
  mov.u64 %rd2, tile;
  cvta.shared.u64 %rd2, %rd2;
  mad.wide.u32 %rd2, %r1, 4, %rd2;
  st.u32 [%rd2], %r2;
  ld.param.u64 %rd3, [x];
  mad.wide.u32 %rd3, %r2, 4, %rd3;
  rem.u32 %r12, %r2, 3;
  setp.eq.u32 %p1, %r12, 0;
  selp.b64 %rd4, %rd1, %rd2, %p1;
  setp.eq.u32 %p2, %r12, 1;
  selp.b64 %rd4, %rd3, %rd4, %p2;
  ld.u32 %r10, [%rd4];
  add.u32 %r10, %r10, 1;
  st.u32 [%rd4], %r10;
  ld.u32 %r10, [%rd4];""", 2, 32, np.arange(1000, 1064, dtype=np.uint32), parameters=".param .u64 x", outside=SHARED)
    assert got.tolist() == [1 + [k + 500, k + 1000, k][k % 3] for k in range(64)]


def test_local_memory_belongs_to_a_thread():
    got = results("""  .local .align 4 .b8 stack[40];
  mov.u64 %rd1, stack;
  mov.u32 %r11, 0;
$FILL:
  mad.wide.u32 %rd2, %r11, 4, %rd1;
  mul.lo.u32 %r12, %r11, %r2;
  st.local.u32 [%rd2], %r12;
  add.u32 %r11, %r11, 1;
  setp.lt.u32 %p1, %r11, 10;
  @%p1 bra $FILL;
  rem.u32 %r13, %r2, 10;
  mad.wide.u32 %rd2, %r13, 4, %rd1;
  ld.local.u32 %r10, [%rd2];""", 2, 32)
    assert got.tolist() == [k % 10 * k for k in range(64)]


# --- atomics ----------------------------------------------------------------------------------------------------------

CHANGES = {"add": lambda o, v: o + v, "min": min, "max": max, "and": lambda o, v: o & v, "or": lambda o, v: o | v,
           "xor": lambda o, v: o ^ v, "exch": lambda o, v: v, "inc": lambda o, v: 0 if o >= v else o + 1,
           "dec": lambda o, v: v if o == 0 or o > v else o - 1}


@pytest.mark.parametrize("name,kind", [("add", "u32"), ("add", "s32"), ("add", "u64"), ("min", "s32"), ("max", "u32"), ("min",
    "u64"),
                                       ("max", "s64"), ("and", "b32"), ("or", "b64"), ("xor", "b32"), ("exch", "b64"), ("inc",
                                           "u32"),
                                       ("dec", "u32"), ("add", "f32"), ("add", "f64"), ("exch", "b32")])
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics_happen_one_after_the_other(name, kind, space, rng):
    """Old values and the last one are those of some order of the threads."""
    dtype = np.dtype({"b": "u"}.get(kind[0], kind[0]).replace("s", "i") + str(int(kind[1:]) // 8))
    x = rng.integers(1, 100, 64).astype(dtype)
    size, register = dtype.itemsize, {"f32": "f", "f64": "fd"}.get(kind, "r" if kind[1:] == "32" else "rd")
    place = "mov.u64 %rd5, cell;" if space == "shared" else "ld.param.u64 %rd5, [cells];"
    text = kernel(f"""  ld.param.u64 %rd1, [x]; mad.wide.u32 %rd2, %r2, {size}, %rd1; ld.global.{kind} %{register}11, [%rd2];
  {place}
  and.b32 %r5, %r1, 1; mad.wide.u32 %rd5, %r5, {size}, %rd5;
  setp.lt.u32 %p1, %r1, 2;
  mov.b{8 * size} %{register}12, 0;
  @%p1 st.{space}.b{8 * size} [%rd5], %{register}12;
  bar.sync 0;
  atom.{space}.{name}.{kind} %{register}13, [%rd5], %{register}11;
  bar.sync 0;
  ld.param.u64 %rd6, [old]; mad.wide.u32 %rd6, %r2, {size}, %rd6; st.global.{kind} [%rd6], %{register}13;
  ld.{space}.{kind} %{register}14, [%rd5];
  ld.param.u64 %rd6, [last]; mad.wide.u32 %rd6, %r2, {size}, %rd6; st.global.{kind} [%rd6], %{register}14;""",
                  ".param .u64 x, .param .u64 cells, .param .u64 old, .param .u64 last", ".shared .align 8 .b8 cell[16];\n")
    if register == "f" or register == "fd":
        zero = f"0{'f' if size == 4 else 'd'}{'0' * 2 * size}"
        text = text.replace(f"mov.b{8 * size} %{register}12, 0;", f"mov.f{8 * size} %{register}12, {zero};")
    _, _, _, old, last = launch(text, 1, 64, x, np.zeros(2, dtype), np.zeros(64, dtype), np.zeros(64, dtype))
    for parity in (0, 1):
        before, values, after = (v[parity::2].tolist() for v in (old, x, last))
        assert len(set(after)) == 1
        # Each thread's change leads from what it saw to what the next one saw.
        assert sorted([*before, after[0]]) == sorted([0, *(CHANGES[name](o, v) for o, v in zip(before, values))])
        if name not in ("exch", "inc", "dec"):
            assert after[0] == functools.reduce(CHANGES[name], values, 0)


def test_sums_without_old_values(rng):
    for kind, dtype, register in (("f32", "f4", "f"), ("f64", "f8", "fd"), ("u32", "u4", "r"), ("u64", "u8", "rd")):
        x = rng.integers(0, 100, 300).astype(dtype)
        bins = rng.integers(0, 5, 300).astype("u4")
        text = kernel(f"""  setp.ge.u32 %p1, %r2, 300; @%p1 bra $END;
  ld.param.u64 %rd1, [x]; mad.wide.u32 %rd1, %r2, {x.itemsize}, %rd1; ld.global.{kind} %{register}11, [%rd1];
  ld.param.u64 %rd1, [bins]; mad.wide.u32 %rd1, %r2, 4, %rd1; ld.global.u32 %r12, [%rd1];
  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r12, {x.itemsize}, %rd1;
  red.global.add.{kind} [%rd1], %{register}11;
$END:""", ".param .u64 x, .param .u64 bins, .param .u64 out")
        counts, _, _, got = launch(text, 3, 128, x, bins, np.zeros(5, dtype))
        assert np.array_equal(got, np.bincount(bins, x, 5).astype(dtype)) and counts.bytes["atomic"] == x.nbytes


def test_compare_and_swap_loop_on_float16(rng):
    """The sum of float16 in 16-bit words by atom.cas, all threads on two words."""
    x = rng.integers(0, 8, 64).astype(np.float16)
    text = kernel("""  ld.param.u64 %rd1, [x]; mad.wide.u32 %rd1, %r2, 2, %rd1; ld.global.b16 %h11, [%rd1];
  ld.param.u64 %rd2, [out]; and.b32 %r5, %r1, 1; mad.wide.u32 %rd2, %r5, 2, %rd2;
  ld.volatile.global.b16 %h12, [%rd2];
$AGAIN:
  add.rn.f16 %h13, %h12, %h11;
  atom.global.cas.b16 %h14, [%rd2], %h12, %h13;
  setp.ne.b16 %p1, %h14, %h12;
  mov.b16 %h12, %h14;
  @%p1 bra $AGAIN;""", f".param .u64 x, {OUT}")
    assert np.array_equal(launch(text, 1, 64, x, np.zeros(2, np.float16))[2], [x[::2].sum(), x[1::2].sum()])
    pairs = x.reshape(-1, 2)
    text = kernel("""  ld.param.u64 %rd1, [x]; mad.wide.u32 %rd1, %r2, 4, %rd1; ld.global.b32 %r11, [%rd1];
  ld.param.u64 %rd2, [out]; atom.global.add.noftz.f16x2 %r12, [%rd2], %r11;""", f".param .u64 x, {OUT}")
    assert np.array_equal(launch(text, 1, 32, x, np.zeros(2, np.float16))[2], pairs.sum(0))


# --- warps and barriers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 8])
def test_shuffles(mode, width, rng):
    for b in (0, 1, 5, 31):
        clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
        got = results(f"""  mul.lo.u32 %r11, %r2, 7;
  shfl.sync.{mode}.b32 %r12|%p1, %r11, {b}, {clamp}, -1;
  selp.u32 %r13, 1000000, 0, %p1;
  add.u32 %r10, %r12, %r13;""", 2, 64)
        for t, value in enumerate(got.tolist()):
            lane, base = t % 32, t % 32 // width * width
            source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": base + b % width}[mode]
            valid = source >= base if mode == "up" else source < base + width
            assert value == 7 * (t - lane + (source if valid else lane)) + 1000000 * valid


def test_votes_matches_and_reductions(rng):
    x = rng.integers(0, 4, 64).astype(np.uint32)
    load = "ld.param.u64 %rd1, [x]; mad.wide.u32 %rd1, %r2, 4, %rd1; ld.global.u32 %r11, [%rd1]; setp.eq.u32 %p1, %r11, 2;"
    def run(lines, values=x):
        return results(f"  {load} {lines}", 1, 64, values, parameters=".param .u64 x").tolist()
    warp = [x[:32], x[32:]]
    masks = [[sum(1 << k for k in range(32) if w[k] == v) for v in range(4)] for w in warp]
    assert run("vote.sync.ballot.b32 %r10, %p1, -1;") == [masks[t // 32][2] for t in range(64)]
    assert run("match.any.sync.b32 %r10, %r11, -1;") == [masks[t // 32][x[t]] for t in range(64)]
    for name, function in (("any", any), ("all", all), ("uni", lambda v: len(set(v)) == 1)):
        for values in (x, np.full(64, 2, np.uint32), np.zeros(64, np.uint32)):
            got = run(f"vote.sync.{name}.pred %p2, %p1, -1; selp.u32 %r10, 1, 0, %p2;", values)
            assert got == [int(function([v == 2 for v in values[t // 32 * 32:t // 32 * 32 + 32].tolist()])) for t in range(64)]
    for values, expected in ((x, 0), (np.repeat(np.uint32([3, 1]), 32), 0xffffffff)):
        assert run("match.all.sync.b32 %r10|%p2, %r11, -1;", values) == [expected] * 64
        got = run("match.all.sync.b32 %r12|%p2, %r11, -1; selp.u32 %r10, 1, 0, %p2;", values)
        assert got == [int(expected != 0)] * 64
    for name, function in (("add", sum), ("min", min), ("max", max)):
        assert run(f"redux.sync.{name}.u32 %r10, %r11, -1;") == [function(warp[t // 32].tolist()) for t in range(64)]
    assert run("redux.sync.xor.b32 %r10, %r11, -1;") == [int(np.bitwise_xor.reduce(warp[t // 32])) for t in range(64)]


def test_warp_instructions_wait_for_their_lanes():
    """Lanes come to a shuffle from different ways and at different times; a lane that has ended is not waited for."""
    got = results("""  setp.eq.u32 %p1, %r1, 31;
  @%p1 exit;
  mov.u32 %r11, %r1;
$LOOP:
  setp.ge.u32 %p2, %r11, 40;
  @%p2 bra $MEET;
  bra $LATER;
$MEET:
  shfl.sync.bfly.b32 %r10, %r11, 1, 31, 0x3fffffff;
  bra $END;
$LATER:
  add.u32 %r11, %r11, 7;
  setp.ne.u32 %p3, %r1, 30;
  @%p3 bra $LOOP;
  mov.u32 %r10, 77;
$END:""", 1, 32)

    def value(t):
        while t < 40:
            t += 7
        return t
    assert got.tolist() == [value(k ^ 1) for k in range(30)] + [77, 0]


def test_barriers_with_numbers_and_counts():
    """Two halves of a block use barriers of their own, each of 32 threads."""
    got = results("""  shr.u32 %r11, %r1, 5;
  add.u32 %r12, %r11, 1;
  mov.u32 %r13, tile;
  mad.lo.u32 %r14, %r1, 4, %r13;
  st.shared.u32 [%r14], %r1;
  bar.sync %r12, 32;
  xor.b32 %r15, %r1, 31;
  mad.lo.u32 %r14, %r15, 4, %r13;
  ld.shared.u32 %r10, [%r14];""", 2, 64, outside=SHARED)
    assert got.tolist() == [k % 64 ^ 31 for k in range(128)]


def test_barriers_that_vote():
    body = """  rem.u32 %r11, %r1, 3;
  setp.eq.u32 %p1, %r11, 0;
  barrier.cta.red.popc.aligned.u32 %r12, 0, %p1;
  bar.red.or.pred %p2, 0, %p1;
  bar.red.and.pred %p3, 0, %p1;
  selp.u32 %r13, 100, 0, %p2;
  selp.u32 %r14, 1000, 0, %p3;
  add.u32 %r10, %r12, %r13;
  add.u32 %r10, %r10, %r14;"""
    assert set(results(body, 3, 50).tolist()) == {117} and set(results(body, 2, 1).tolist()) == {1101}
