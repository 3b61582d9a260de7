"""What source text of CUDA kernels may use beyond plain Python: loads, stores, shared memory, indices, shuffles, atomics.

Each is an intrinsic of numba-cuda that becomes one or two instructions. Memory is addressed as (address, byte offset), address an
integer: global memory is address space 1, so that PTX says `ld.global` and never goes through generic addresses. Functions of
libm are those of the CPU (`kernels.lowering`) and give the same bits; only what the CPU takes from its C library comes from
libdevice. Imported only when a kernel is compiled, since it imports numba-cuda.
"""
from __future__ import annotations

import functools
import re

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils
from numba.cuda import extending
from numba.cuda.extending import intrinsic
from numba.cuda.typing import Signature

from .. import libm, libm_base, lowering

I8, I16, I32, I64, HALF = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.HalfType()
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()

# dtype -> (type of the loaded value, LLVM type of a number in memory, how many numbers an element has)
MEMORY = {
    "bool": (types.uint8, I8, 1), "uint8": (types.uint8, I8, 1), "int8": (types.int8, I8, 1),
    "uint16": (types.uint16, I16, 1), "int16": (types.int16, I16, 1), "uint32": (types.uint32, I32, 1),
    "int32": (types.int32, I32, 1), "uint64": (types.uint64, I64, 1), "int64": (types.int64, I64, 1),
    "float16": (types.uint16, I16, 1), "float32": (types.float32, FLOAT, 1), "float64": (types.float64, DOUBLE, 1),
    "complex64": (types.complex64, FLOAT, 2), "complex128": (types.complex128, DOUBLE, 2),
}
COMPUTE = {name: memory[0] for name, memory in MEMORY.items()} | {"bool": types.boolean, "float16": types.float32}
GLOBAL, SHARED = 1, 3


def register() -> None:
    """Make libm usable inside CUDA kernels. Idempotent."""
    lowering.register(_Api, {"forceinline": True}, _library)


class _Api:
    """numba-cuda's decorators, as `kernels.lowering` uses them."""

    overload, register_jitable = staticmethod(extending.overload), staticmethod(extending.register_jitable)

    @staticmethod
    def lower_builtin(function, *types_of_arguments):
        """numba-cuda knows what was told to Numba for the CPU, too: exact types come before that."""
        def decorate(code):
            extending.lower_builtin(function, *types_of_arguments)(code)
            for kind in (types.float32, types.float64):
                for count in range(1, 5):
                    extending.lower_builtin(function, *[kind] * count)(code)
            return code
        return decorate

    @staticmethod
    def type_callable(function):
        """Signatures are a class of numba-cuda's own."""
        def decorate(factory):
            def made(context):
                typer = factory(context)

                @functools.wraps(typer)
                def typed(*args):
                    found = typer(*args)
                    return None if found is None else Signature(found.return_type, found.args, None)
                return typed
            extending.type_callable(function)(made)
            return factory
        return decorate


def _library(name: str):
    """Code for what is an instruction, or the C library's, on the CPU: NVVM's language has few of LLVM's intrinsics."""
    if name == "fma":
        return _fma
    return _beyond(name) if name in ("sin", "cos", "tan", "fmod") else _libdevice(name)


def _called(builder, name: str, args: list):
    """A call of libdevice's function of one type: `__nv_fabs` of doubles, `__nv_fabsf` of floats."""
    kind = args[0].type
    name = f"__nv_{name}{'f' if kind == FLOAT else ''}"
    if name.startswith("__nv_sqrt"):
        name = "__nv_fsqrt_rn" if kind == FLOAT else "__nv_dsqrt_rn"
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(args)), name), args)


def _libdevice(name: str):
    def codegen(context, builder, signature, args):
        return _called(builder, name, args)
    return codegen


def _fma(context, builder, signature, args):
    kind = args[0].type
    suffix = "f32" if kind == FLOAT else "f64"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}")
    return builder.call(function, args)


def _beyond(name: str):
    """As `kernels.libm_base.beyond_sin`: (x, result) -> result, or f(x) in double precision where |x| is beyond the limit."""
    def codegen(context, builder, signature, args):
        kind = args[0].type
        single = kind == FLOAT
        if name == "fmod":
            operands, tested, limit = args[:2], args[2], 2.0**23 if single else 2.0**52
        else:
            operands, tested, limit = args[:1], args[0], float(libm_base.TRIG_LIMIT[np.float32 if single else np.float64])
        beyond = builder.fcmp_ordered(">=", _called(builder, "fabs", [tested]), ir.Constant(kind, limit))
        before = builder.block
        with builder.if_then(beyond):
            value = _called(builder, name, [builder.fpext(a, DOUBLE) if single else a for a in operands])
            replaced, inside = builder.fptrunc(value, FLOAT) if single else value, builder.block
        out = builder.phi(kind)
        out.add_incoming(args[-1], before)
        out.add_incoming(replaced, inside)
        return out
    return codegen


# --- loads and stores -------------------------------------------------------------------------------------------------

def _offset(builder, value):
    return value if value.type.width == 64 else builder.sext(value, I64)


def _place(builder, address, offset, kind, space):
    return builder.inttoptr(builder.add(address, _offset(builder, offset)), ir.PointerType(kind, addrspace=space))


def _load(builder, address, offset, kind, space, readonly, align):
    value = builder.load(_place(builder, address, offset, kind, space))
    value.align = align
    if readonly:
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def _bytes(kind) -> int:
    return 8 if isinstance(kind, ir.DoubleType) else 4 if isinstance(kind, ir.FloatType) else kind.width // 8


def _piece(builder, value, k: int, kind):
    return builder.trunc(builder.lshr(value, value.type(k * kind.width)) if k else value, kind)


def _accesses(name: str, width: int, space: int, readonly: bool):
    """(load, store) of `width` neighbouring elements as one access: a value where the width is 1, else a tuple of them."""
    value_type, kind, parts = MEMORY[name]
    count = width * parts
    small = count > 1 and _bytes(kind) < 4        # as one integer: NVVM would break up vectors of halves
    whole = kind if count == 1 else ir.IntType(8 * _bytes(kind) * count) if small else ir.VectorType(kind, count)
    align = _bytes(kind) * count
    element = _piece if small else (lambda builder, value, k, kind: builder.extract_element(value, I32(k)))
    result = value_type if width == 1 else types.UniTuple(value_type, width)

    @intrinsic
    def load(typing, address, offset):
        def emit(context, builder, signature, args):
            value = _load(builder, *args, whole, space, readonly, align)
            numbers = [value] if count == 1 else [element(builder, value, k, kind) for k in range(count)]
            if parts == 2:
                pairs = [context.make_complex(builder, value_type) for _ in range(width)]
                for k, pair in enumerate(pairs):
                    pair.real, pair.imag = numbers[2 * k], numbers[2 * k + 1]
                numbers = [p._getvalue() for p in pairs]
            return numbers[0] if width == 1 else context.make_tuple(builder, result, numbers)
        return result(types.uint64, types.int64), emit

    @intrinsic
    def store(typing, address, offset, value):
        def emit(context, builder, signature, args):
            values = [args[2]] if width == 1 else [builder.extract_value(args[2], k) for k in range(width)]
            numbers = []
            for v in values:
                if parts == 2:
                    c = context.make_complex(builder, value_type, v)
                    numbers += [c.real, c.imag]
                else:
                    numbers.append(v)
            if count == 1:
                packed = numbers[0]
            elif small:
                packed = builder.zext(numbers[0], whole)
                for k, number in enumerate(numbers[1:], 1):
                    packed = builder.or_(packed, builder.shl(builder.zext(number, whole), whole(k * kind.width)))
            else:
                packed = ir.Constant(whole, ir.Undefined)
                for k, number in enumerate(numbers):
                    packed = builder.insert_element(packed, number, I32(k))
            builder.store(packed, _place(builder, args[0], args[1], whole, space)).align = align
            return context.get_dummy_value()
        return types.void(types.uint64, types.int64, result), emit
    return load, store


@intrinsic
def shared(typing, size):
    """The address of `size` bytes of shared memory of the block, 16-byte aligned; `size` is a literal."""
    if not isinstance(size, types.IntegerLiteral):
        return None

    def emit(context, builder, signature, args):
        module = builder.module
        block = ir.GlobalVariable(module, ir.ArrayType(I8, size.literal_value), module.get_unique_name("shared_memory"), SHARED)
        block.linkage, block.align = "internal", 16
        block.initializer = ir.Constant(block.value_type, ir.Undefined)
        return builder.ptrtoint(block, I64)
    return types.uint64(size), emit


# --- numbers ----------------------------------------------------------------------------------------------------------

@intrinsic
def half_to_float(typing, bits):
    """The float32 equal to a half, whose bits are given as uint16; by an instruction that NVVM leaves alone."""
    def emit(context, builder, signature, args):
        convert = ir.InlineAsm(ir.FunctionType(FLOAT, [I16]), "cvt.f32.f16 $0, $1;", "=f,h")
        return builder.call(convert, [args[0]])
    return types.float32(types.uint16), emit


@intrinsic
def float_to_half(typing, value):
    """The bits of the half nearest to a float32."""
    def emit(context, builder, signature, args):
        return builder.bitcast(builder.fptrunc(args[0], HALF), I16)
    return types.uint16(types.float32), emit


@intrinsic
def place(typing, base, index, stride):
    """base + index * stride, index below 2**31 and stride within 32 bits: one instruction."""
    def emit(context, builder, signature, args):
        product = builder.mul(builder.sext(builder.trunc(args[1], I32), I64), builder.sext(builder.trunc(args[2], I32), I64))
        return builder.add(args[0], product)
    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def divided(typing, number, magic, shift):
    """number // divisor for 0 <= number < 2**31 by a multiplication; (magic, shift) are `launch.divider(divisor)`."""
    def emit(context, builder, signature, args):
        n, m, s = (builder.trunc(a, I32) for a in args)
        wide = builder.mul(builder.zext(n, I64), builder.zext(m, I64))
        high = builder.trunc(builder.lshr(wide, I64(32)), I32)
        return builder.zext(builder.lshr(builder.add(high, n), s), I64)
    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def quotient(typing, number, divisor):
    """number // divisor of numbers that are not negative."""
    def emit(context, builder, signature, args):
        return builder.udiv(*args)
    return types.int64(types.int64, types.int64), emit


# --- threads ----------------------------------------------------------------------------------------------------------

def _special(register: str):
    @intrinsic
    def read(typing):
        def emit(context, builder, signature, args):
            kind = ir.FunctionType(I32, [])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.nvvm.read.ptx.sreg.{register}")
            return builder.zext(builder.call(function, []), I64)
        return types.int64(), emit
    return read


thread, threads, block, blocks = (_special(register) for register in ("tid.x", "ntid.x", "ctaid.x", "nctaid.x"))


@intrinsic
def barrier(typing):
    """Wait until all threads of the block are here; what they wrote to shared memory is then seen by all."""
    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.barrier0"), [])
        return context.get_dummy_value()
    return types.void(), emit


def _words(builder, value) -> tuple[list, object]:
    """A number as 32-bit words, and how to make it of words again."""
    kind = value.type
    size = _bytes(kind) if not (isinstance(kind, ir.IntType) and kind.width == 1) else 0
    if size < 4:
        return [builder.zext(value, I32)], lambda words: builder.trunc(words[0], kind)
    if size == 4:
        return [builder.bitcast(value, I32)], lambda words: builder.bitcast(words[0], kind)
    pair = ir.VectorType(I32, 2)
    both = builder.bitcast(value, pair)

    def join(words):
        made = ir.Constant(pair, ir.Undefined)
        for k, word in enumerate(words):
            made = builder.insert_element(made, word, I32(k))
        return builder.bitcast(made, kind)
    return [builder.extract_element(both, I32(k)) for k in range(2)], join


def _shuffle(mode: int, clamp: int):
    @intrinsic
    def shuffle(typing, value, lanes):
        value = types.unliteral(value)

        def emit(context, builder, signature, args):
            pair = ir.LiteralStructType([I32, ir.IntType(1)])
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(pair, [I32] * 5), "llvm.nvvm.shfl.sync.i32")
            lanes = builder.trunc(args[1], I32)

            def move(number):
                words, join = _words(builder, number)
                moved = [builder.call(function, [I32(-1), I32(mode), w, lanes, I32(clamp)]) for w in words]
                return join([builder.extract_value(m, 0) for m in moved])
            if not isinstance(value, types.Complex):
                return move(args[0])
            parts, out = context.make_complex(builder, value, args[0]), context.make_complex(builder, value)
            out.real, out.imag = move(parts.real), move(parts.imag)
            return out._getvalue()
        return value(value, types.int64), emit
    return shuffle


# the value that another lane of the warp holds; all 32 lanes must call together
from_lane, from_before, from_behind, from_across = _shuffle(0, 31), _shuffle(1, 0), _shuffle(2, 31), _shuffle(3, 31)


def names(source: str) -> dict[str, object]:
    """The meaning of what a source text may say.

    `load_float32(address, offset)`; `read_...`: the same for memory that nobody writes while the kernel runs (`ld.global.nc`);
    `store_...`; `peek_...` and `keep_...`: shared memory. A digit makes it wide: `load4_float32` gives four neighbours as a tuple.
    """
    space = {"inline": function, "outlined": outlined, "smaller": smaller, "greater": greater, "libm": libm, "inf": float("inf"),
             "nan": float("nan"), **_WORDS}
    space |= {f"as_{dtype}": numba_type for dtype, numba_type in COMPUTE.items()}
    for verb, width, dtype in set(re.findall(r"\b(load|read|store|peek|keep)(\d?)_(\w+)\(", source)):
        if dtype in MEMORY:
            space[f"{verb}{width}_{dtype}"] = access(verb, int(width or 1), dtype)
    return space


_WORDS = {f.__name__: f for f in (shared, half_to_float, float_to_half, place, divided, quotient, barrier)} | {
    "thread": thread, "threads": threads, "block": block, "blocks": blocks, "from_lane": from_lane, "from_before": from_before,
    "from_behind": from_behind, "from_across": from_across}


@functools.cache
def access(verb: str, width: int, dtype: str) -> object:
    """One load or store by its verb, see `names`."""
    load, store = _accesses(dtype, width, SHARED if verb in ("peek", "keep") else GLOBAL, verb == "read")
    return store if verb in ("store", "keep") else load


def function(python, own: bool = True, **options):
    """A Python function that kernels may call, always inlined."""
    return cuda.jit(device=True, forceinline=True)(python)


def outlined(python):
    """A function that kernels call, where it is long and used in several places; NVVM may inline it."""
    return cuda.jit(device=True)(python)


@function
def smaller(a, b, c=None):
    """`min` as on the CPU: the first argument where a comparison with NaN fails. libdevice's prefers what is a number."""
    m = b if b < a else a
    if c is None:
        return m
    return c if c < m else m


@function
def greater(a, b, c=None):
    """`max` as on the CPU, see `smaller`."""
    m = b if b > a else a
    if c is None:
        return m
    return c if c > m else m


@function
def never(count):
    """No loop is asked whether it shall end."""
    return False
