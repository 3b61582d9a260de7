"""Branches, loops, calls, registers, parameters, variables, launches and texts of the PTX interpreter."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_snippets import HEADER, OUT, STORE, array, kernel, launch, line_of, results

from kernels.cuda import ptx

# --- control flow -----------------------------------------------------------------------------------------------------


def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    return steps


def test_loops_of_different_length():
    got = results("""  add.u32 %r11, %r2, 1;
  mov.u32 %r10, 0;
$LOOP:
  setp.eq.u32 %p1, %r11, 1;
  @%p1 bra $DONE;
  and.b32 %r12, %r11, 1;
  setp.eq.b32 %p2, %r12, 0;
  @%p2 bra $EVEN;
  mad.lo.u32 %r11, %r11, 3, 1;
  bra.uni $NEXT;
$EVEN:
  shr.u32 %r11, %r11, 1;
$NEXT:
  add.u32 %r10, %r10, 1;
  bra $LOOP;
$DONE:""", 3, 50)
    assert got.tolist() == [collatz(k + 1) for k in range(150)]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_random_branches_meet_again(seed):
    """A tree of branches on the thread's bits, whose leaves do different arithmetic."""
    random = np.random.default_rng(seed)
    constants = random.integers(1, 1000, 8)
    lines, leaves = [], []
    for k in range(7):      # node k has the children 2k + 1 and 2k + 2
        child = [f"$L{2 * k + 1}", f"$L{2 * k + 2}"] if random.integers(2) else [f"$L{2 * k + 2}", f"$L{2 * k + 1}"]
        leaves.append(child)
        lines.append(f"$L{k}:\n and.b32 %r11, %r2, {1 << k % 3}; setp.ne.u32 %p1, %r11, 0; @%p1 bra {child[0]}; bra {child[1]};")
    for k in range(7, 15):
        lines.append(f"$L{k}:\n mad.lo.u32 %r10, %r2, {constants[k - 7]}, {k}; bra $MEET;")
    got = results("\n".join(["bra $L0;", *(lines[k] for k in random.permutation(15)), "$MEET:", " activemask.b32 %r12;",
                             " popc.b32 %r12, %r12;", " mad.lo.u32 %r10, %r12, 1000000, %r10;"]), 1, 64)
    def leaf(t):
        k = 0
        while k < 7:
            k = int(leaves[k][0 if t >> k % 3 & 1 else 1][2:])
        return k
    assert (got % 1000000).tolist() == [t * int(constants[leaf(t) - 7]) + leaf(t) for t in range(64)]


def test_predicated_instructions_and_exit():
    got = results("""  mov.u32 %r10, 5;
  setp.lt.u32 %p1, %r1, 10;
  @%p1 add.u32 %r10, %r10, %r1;
  @!%p1 mul.lo.u32 %r10, %r10, 2;
  setp.gt.u32 %p2, %r1, 30;
  @%p2 exit;""", 1, 40)
    assert got.tolist() == [5 + k if k < 10 else 10 if k < 31 else 0 for k in range(40)]


def test_switch():
    got = results("""  rem.u32 %r11, %r2, 3;
$TABLE: .branchtargets $A, $B, $C;
  brx.idx %r11, $TABLE;
$A:
  mov.u32 %r10, 100; bra $END;
$B:
  mov.u32 %r10, 200; bra $END;
$C:
  mov.u32 %r10, 300;
$END:""", 1, 64)
    assert got.tolist() == [100 * (1 + k % 3) for k in range(64)]


FUNCTIONS = """
.func (.param .b32 result) twice(.param .b32 x)
{
  .reg .b32 %r<3>;
  ld.param.u32 %r1, [x];
  add.u32 %r2, %r1, %r1;
  st.param.b32 [result], %r2;
  ret;
}
.func (.param .b32 result) power(.param .b32 x, .param .b32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  ld.param.u32 %r1, [x];
  ld.param.u32 %r2, [n];
  mov.u32 %r3, 1;
$AGAIN:
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra $OUT;
  mul.lo.u32 %r3, %r3, %r1;
  sub.u32 %r2, %r2, 1;
  bra $AGAIN;
$OUT:
  { // callseq
  .param .b32 a0;
  st.param.b32 [a0], %r3;
  .param .b32 r0;
  call.uni (r0), twice, (a0);
  ld.param.b32 %r3, [r0];
  }
  st.param.b32 [result], %r3;
  ret;
}
"""


def test_calls_from_divergent_code():
    got = results("""  mov.u32 %r10, 7;
  and.b32 %r11, %r2, 1;
  setp.eq.u32 %p1, %r11, 0;
  @%p1 bra $SKIP;
  {
  .reg .b32 temp;
  .param .b32 x0; .param .b32 x1; .param .b32 r0;
  mov.u32 temp, 3;
  st.param.b32 [x0], temp;
  rem.u32 %r12, %r2, 7;
  st.param.b32 [x1], %r12;
  call (r0), power, (x0, x1);
  ld.param.b32 %r10, [r0];
  }
$SKIP:
  {
  .param .b32 a0; .param .b32 r0;
  st.param.b32 [a0], %r10;
  call.uni (r0), twice, (a0);
  ld.param.b32 %r10, [r0];
  }""", 2, 40, outside=FUNCTIONS)
    assert got.tolist() == [4 * 3 ** (k % 7) if k % 2 else 14 for k in range(80)]


def test_recursion_is_refused():
    text = kernel("  call f;", outside=".func f()\n{\n  call f;\n  ret;\n}\n")
    with pytest.raises(ptx.UnsupportedInstruction, match="f calls itself"):
        launch(text, 1, 1)


def test_functions_of_another_text():
    outer = kernel(f"""  .param .b32 a0; .param .b32 r0;
  st.param.b32 [a0], %r2;
  call (r0), twice, (a0);
  ld.param.b32 %r10, [r0];
{STORE}""", OUT, ".extern .func (.param .b32 result) twice(.param .b32 x);\n")
    memory = ptx.Memory()
    out = memory.allocate(128)
    with pytest.raises(ptx.LaunchError, match="calls twice, which none of the texts defines"):
        ptx.load(outer).launch("k", 1, 32, [out], memory)
    ptx.load(outer, HEADER + FUNCTIONS.replace(".func", ".visible .func")).launch("k", 1, 32, [out], memory)
    assert np.array_equal(memory.read(out, 128).view(np.uint32), 2 * np.arange(32))


def test_lines_of_linked_texts_are_numbered_on():
    one = kernel("  call f;", outside=".extern .func f();\n")
    two = HEADER + ".visible .func f()\n{\n  trap;\n}\n"
    with pytest.raises(ptx.Trap) as caught:
        ptx.load(one, two).launch("k", 1, 1, [], ptx.Memory())
    assert caught.value.line == line_of(one + two, "trap")


@pytest.mark.parametrize("name,fails", [("vprintf", False), ("__assertfail", True)])
def test_functions_of_the_driver(name, fails):
    """Printing is left out; a failed assertion stops the kernel."""
    text = kernel(f"  .param .b64 a; .param .b32 r; st.param.b64 [a], 0; call (r), {name}, (a);",
                  outside=f".extern .func (.param .b32 r) {name}(.param .b64 a);\n")
    if fails:
        with pytest.raises(ptx.Trap, match="stopped itself") as caught:
            launch(text, 1, 1)
        assert caught.value.text == name
    else:
        launch(text, 1, 1)


def test_an_endless_loop_meets_the_limit():
    with pytest.raises(ptx.StepLimit, match="no end after 1001"):
        results("$L:\n  bra $L;", 1, 1, limit=1000)


def test_those_who_spin_do_not_starve_others():
    """Thread 0 spins, at a smaller position than the others, until thread 1 has written."""
    got = results("""  ld.param.u64 %rd1, [flag];
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra $WRITE;
$SPIN:
  ld.volatile.global.u32 %r10, [%rd1];
  setp.eq.u32 %p2, %r10, 0;
  @%p2 bra $SPIN;
  bra $END;
$WRITE:
  atom.global.exch.b32 %r10, [%rd1], 9;
$END:""", 1, 2, np.zeros(1, np.uint32), parameters=".param .u64 flag")
    assert got.tolist() == [9, 0]


# --- registers, parameters, variables ----------------------------------------------------------------------------------


def test_special_registers():
    text = kernel("""  ld.param.u64 %rd1, [out];
  mov.u32 %r5, %nctaid.x; mov.u32 %r6, %ctaid.y; mov.u32 %r7, %ntid.x; mov.u32 %r8, %tid.y; mov.u32 %r9, %tid.z;
  mov.u32 %r11, %ntid.y; mov.u32 %r12, %ctaid.z; mov.u32 %r14, %nctaid.y;
  mad.lo.u32 %r13, %r12, %r14, %r6; mad.lo.u32 %r13, %r13, %r5, %r3;
  mad.lo.u32 %r15, %r9, %r11, %r8; mad.lo.u32 %r15, %r15, %r7, %r1;
  mad.lo.u32 %r13, %r13, 24, %r15;
  mad.wide.u32 %rd2, %r13, 16, %rd1;
  mov.u32 %r20, %laneid; mov.u32 %r21, %lanemask_lt; mov.u32 %r22, %lanemask_ge; mov.u32 %r23, %warpid;
  st.global.v4.u32 [%rd2], {%r20, %r21, %r22, %r23};""", OUT)
    counts, got = launch(text, (2, 3, 2), (4, 3, 2), np.zeros((12 * 24, 4), np.uint32))
    lane = np.tile(np.arange(24), 12)
    assert np.array_equal(got, np.stack([lane, (1 << lane) - 1, 0xffffffff ^ ((1 << lane) - 1), 0 * lane], 1))
    assert counts.grid == (2, 3, 2) and counts.block == (4, 3, 2)


def test_parameters_of_all_kinds():
    text = kernel("""  ld.param.u64 %rd1, [out];
  ld.param.s8 %r10, [a];
  ld.param.u8 %r11, [b];
  ld.param.s16 %r12, [c];
  ld.param.f64 %fd1, [d];
  ld.param.f32 %f1, [e];
  ld.param.v2.f32 {%f2, %f3}, [f];
  ld.param.b16 %h1, [g];
  cvt.f32.f16 %f4, %h1;
  st.global.v2.s32 [%rd1], {%r10, %r11};
  st.global.s32 [%rd1+8], %r12;
  st.global.f32 [%rd1+12], %f1;
  st.global.v2.f32 [%rd1+16], {%f2, %f3};
  st.global.f32 [%rd1+24], %f4;
  st.global.f64 [%rd1+32], %fd1;""", ".param .u64 .ptr .align 1 out, .param .s8 a, .param .u8 b, .param .u16 c, .param .f64 d, "
                  ".param .f32 e, .param .align 8 .b8 f[8], .param .b16 g")
    *_, got = launch(text, 1, 1, np.zeros(40, np.uint8), -3, True, -5, 2.5, np.float32(0.1), np.complex64(1 + 2j).tobytes(),
                     np.float16(1.5))
    assert got[:12].view(np.int32).tolist() == [-3, 1, -5]
    assert np.array_equal(got[12:28].view(np.float32), np.float32([0.1, 1, 2, 1.5])) and got[32:].view(np.float64)[0] == 2.5


def test_variables_with_initial_values():
    outside = """.visible .const .align 4 .b8 table[12] = {1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255};
.global .align 8 .f64 numbers[2] = {0d3FF0000000000000, 0d4000000000000000};
.global .align 8 .u64 place[2] = {generic(numbers), numbers+8};
.global .align 4 .u32 counter;
"""
    text = kernel("""  ld.param.u64 %rd1, [out];
  ld.const.u32 %r10, [table+8];
  mov.u64 %rd2, table;
  ld.const.u32 %r11, [%rd2+4];
  ld.global.u64 %rd3, [place+8];
  ld.f64 %fd1, [%rd3];
  cvt.rni.s32.f64 %r12, %fd1;
  ld.global.u32 %r13, [counter];
  add.u32 %r13, %r13, 1;
  st.global.u32 [counter], %r13;
  st.global.v4.u32 [%rd1], {%r10, %r11, %r12, %r13};""", OUT, outside)
    memory = ptx.Memory()
    out = memory.allocate(16)
    for count in (1, 2):        # the variables of a program live as long as the memory
        ptx.load(text).launch("k", 1, 1, [out], memory)
        assert memory.read(out, 16).view(np.uint32).tolist() == [2**32 - 1, 2, 2, count]


# --- launches and texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change,words", [
    ({"grid": 0}, "grid.*at least 1"), ({"block": 2000}, "2000 threads; at most 1024"), ({"block": (1, 1, 128)}, "64 in z"),
    ({"grid": (1, 70000)}, "larger than"), ({"arguments": []}, "0 arguments for 1 parameters"), ({"arguments": [2.5]},
        "is the float 2.5"),
    ({"arguments": [1 << 65]}, "does not fit .u64"), ({"arguments": ["x"]}, "a number is needed"), ({"shared_bytes": 10},
        "declares none"),
    ({"check": ("everything",)}, "unknown check"), ({"kernel_name": "other"}, "no kernel other; there are: k"),
    ({"arguments": [1j]}, "complex"), ({"arguments": [b"abc"]}, "3 bytes, the parameter 8"),
])
def test_launches_that_a_driver_refuses(change, words):
    program = ptx.load(kernel("", OUT))
    with pytest.raises(ptx.LaunchError, match=words):
        program.launch(**{"kernel_name": "k", "grid": 1, "block": 32, "arguments": [0], "memory": ptx.Memory(), **change})


def test_limits_of_a_kernel():
    text = kernel("", outside=".shared .align 4 .b8 big[40000];\n.extern .shared .align 4 .b8 x[];\n")
    text = text.replace("()", "()\n.maxntid 64, 1, 1")
    launch(text, 1, 64)
    with pytest.raises(ptx.LaunchError, match=r"compiled for .maxntid"):
        launch(text, 1, 65)
    with pytest.raises(ptx.LaunchError, match="at most 49152 static and 232448 in all"):
        launch(text, 1, 32, shared=200000)


@pytest.mark.parametrize("text,kind,words", [
    ("  bogus.u32 %r1, %r2;", ptx.UnsupportedInstruction, "not interpreted"),
    ("  add.u32 %r1, %r99, 1;", ptx.SyntaxFault, "%r99 is not declared"),
    ("  bra $NOWHERE;", ptx.SyntaxFault, "NOWHERE is not defined"),
    ("  add.u32 %r1;", ptx.SyntaxFault, "operands do not suit"),
    ("  mad.lo.u32 %r1, %r2;", ptx.SyntaxFault, "operands do not suit"), ("  selp.u32 %r1, %r2;", ptx.SyntaxFault, "operands"),
    ("  shl.b32 %r1, %r2, %r3, %r4;", ptx.SyntaxFault, "3 operands do not suit"),
    ("  setp.lt.u32 %p1, %r1;", ptx.SyntaxFault, "not understood"),
    ("  @%nope bra $X;\n$X:", ptx.SyntaxFault, "predicate %nope"),
    ("  .reg .what %r1;", ptx.SyntaxFault, "declaration"),
    ("  cp.async.bulk.shared::cluster.global [%r1], [%rd1], 4, [%r2];", ptx.UnsupportedInstruction, "not interpreted"),
    ("  mov.u32 %r1, %clock;", ptx.UnsupportedInstruction, "special register %clock"),
    ("  .reg .b16 %h1;\n  add.rn.f32.f16 %f1, %h1, %f1;", ptx.UnsupportedInstruction, "mixed precision"),
    ("  .reg .b16 %h1;\n  fma.rn.f32.f16 %f1, %h1, %h1, %f1;", ptx.UnsupportedInstruction, "mixed precision"),
    ("  barrier.cluster.arrive;", ptx.UnsupportedInstruction, "not interpreted"),
])
def test_texts_that_are_refused(text, kind, words):
    text = kernel(text)
    with pytest.raises(kind, match=words) as caught:
        launch(text, 1, 1)
    assert caught.value.line is None or "$X:" in text or text.splitlines()[caught.value.line - 1].strip() in caught.value.text + ";"


def test_programs_are_kept_and_described():
    text = kernel("  mov.u32 %r5, 1;", f"{OUT}, .param .f32 a")
    program = ptx.load(text)
    assert ptx.load(str(text)) is program and program.kernels == ["k"] and program.target == (9, 0)
    assert program.parameters() == [("out", "u64"), ("a", "f32")]
    assert program.lines()[line_of(text, "%r5, 1")] == "mov.u32 %r5, 1;"


def test_lines_of_the_source_are_named():
    text = kernel("""  .loc 1 17 3
  ld.param.u64 %rd1, [out];
  .loc 1 18 5
  st.global.u32 [%rd1], %r1;""", OUT) + '.file 1 "model.py"\n.section .debug_info\n{\n.b8 1\n}\n'
    with pytest.raises(ptx.MemoryFault, match=r"the null pointer[\s\S]*model.py:18") as caught:
        ptx.load(text).launch("k", 1, 1, [0], ptx.Memory())
    assert caught.value.source == "model.py:18" and caught.value.line == line_of(text, "st.global")


def test_two_threads_may_launch_one_program():
    text = kernel(f"  mul.lo.u32 %r10, %r2, %r2;\n{STORE}", OUT)

    def run(_):
        memory = ptx.Memory()
        out = array(memory, np.zeros(512, np.uint32))
        ptx.load(text).launch("k", 4, 128, [out], memory)
        return memory.read(out, 2048).view(np.uint32)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(run, range(8)):
            assert np.array_equal(got, np.arange(512) ** 2)
