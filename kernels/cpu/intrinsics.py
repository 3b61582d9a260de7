"""What kernel source may use beyond plain Python: loads, stores, stack memory, atomics, calls by address.

Each is a Numba intrinsic that becomes one or two LLVM instructions. Imported only when something is compiled. Memory is
addressed as (byte pointer, byte offset), the form of NumPy's strided loops. Loads and stores carry alias scopes that say "an
output overlaps an input only at the same element", which NumPy's ufunc machinery guarantees (it copies otherwise); without
them LLVM would refuse to vectorise in-place loops.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = types.CPointer(types.uint8)
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)

# stored type -> (Numba type of the loaded value, LLVM type in memory, alignment)
MEMORY = {
    "bool": (types.uint8, I8, 1), "uint8": (types.uint8, I8, 1), "int8": (types.int8, I8, 1),
    "uint16": (types.uint16, ir.IntType(16), 2), "int16": (types.int16, ir.IntType(16), 2),
    "uint32": (types.uint32, I32, 4), "int32": (types.int32, I32, 4),
    "uint64": (types.uint64, I64, 8), "int64": (types.int64, I64, 8),
    "float16": (types.uint16, ir.IntType(16), 2),
    "float32": (types.float32, ir.FloatType(), 4), "float64": (types.float64, ir.DoubleType(), 8),
    "complex64": (types.complex64, ir.LiteralStructType([ir.FloatType()] * 2), 4),
    "complex128": (types.complex128, ir.LiteralStructType([ir.DoubleType()] * 2), 8),
}


def _input_scope(module):
    domain = module.add_metadata(["engine"])
    return module.add_metadata([module.add_metadata(["engine inputs", domain])])


def _typed(builder, args, lltype):
    return builder.bitcast(builder.gep(args[0], [args[1]]), lltype.as_pointer())


def _memory_access(name):
    numba_type, lltype, align = MEMORY[name]

    def make_load(scoped):
        @intrinsic
        def load(typing, base, offset):
            def emit(context, builder, signature, args):
                value = builder.load(_typed(builder, args, lltype))
                value.align = align
                if scoped:
                    value.set_metadata("alias.scope", _input_scope(builder.module))
                return value
            return numba_type(BYTES, types.intp), emit
        return load

    @intrinsic
    def store(typing, base, offset, value):
        def emit(context, builder, signature, args):
            instruction = builder.store(args[2], _typed(builder, args, lltype))
            instruction.align = align
            instruction.set_metadata("noalias", _input_scope(builder.module))
            return context.get_dummy_value()
        return types.void(BYTES, types.intp, numba_type), emit

    return make_load(True), make_load(False), store


LOAD, PEEK, STORE = {}, {}, {}      # PEEK reads memory that the same kernel also writes: no alias promise
for _name in MEMORY:
    LOAD[_name], PEEK[_name], STORE[_name] = _memory_access(_name)


@intrinsic
def stack(typing, size):
    """Bytes on the stack of the whole kernel call, 64-byte aligned; `size` is a literal."""
    if not isinstance(size, types.IntegerLiteral):
        return None

    def emit(context, builder, signature, args):
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(I8, size.literal_value))
        memory.align = 64
        return builder.bitcast(memory, I8.as_pointer())
    return BYTES(size), emit


@intrinsic
def pointer(typing, address):
    """An integer address as a byte pointer."""
    def emit(context, builder, signature, args):
        return builder.inttoptr(args[0], I8.as_pointer())
    return BYTES(types.intp), emit


@intrinsic
def address(typing, base):
    """The integer address of a pointer of any kind."""
    def emit(context, builder, signature, args):
        return builder.ptrtoint(args[0], I64)
    return types.intp(base), emit


@intrinsic
def call_loop(typing, function, args, dimensions, steps, data):
    """Call a loop of NumPy's signature by its integer address; the other four are integer addresses too."""
    def emit(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [I64] * 4)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()
    return types.void(*[types.intp] * 5), emit


def _word(builder, args):
    return builder.inttoptr(builder.add(args[0], builder.mul(args[1], ir.Constant(I64, 8))), I64.as_pointer())


@intrinsic
def word(typing, base, index):
    """Plain read of the index-th 64-bit word at an integer address."""
    def emit(context, builder, signature, args):
        return builder.load(_word(builder, args))
    return types.intp(types.intp, types.intp), emit


@intrinsic
def set_word(typing, base, index, value):
    """Plain write of the index-th 64-bit word at an integer address."""
    def emit(context, builder, signature, args):
        builder.store(args[2], _word(builder, args))
        return context.get_dummy_value()
    return types.void(types.intp, types.intp, types.intp), emit


@intrinsic
def number(typing, base, index):
    """Plain read of the index-th 64-bit word at an integer address as a float64."""
    def emit(context, builder, signature, args):
        return builder.load(builder.bitcast(_word(builder, args), ir.DoubleType().as_pointer()))
    return types.float64(types.intp, types.intp), emit


@intrinsic
def set_number(typing, base, index, value):
    """Plain write of a float64 as the index-th 64-bit word at an integer address."""
    def emit(context, builder, signature, args):
        builder.store(args[2], builder.bitcast(_word(builder, args), ir.DoubleType().as_pointer()))
        return context.get_dummy_value()
    return types.void(types.intp, types.intp, types.float64), emit


@intrinsic
def atomic_load(typing, base, index):
    def emit(context, builder, signature, args):
        return builder.load_atomic(_word(builder, args), "seq_cst", 8)
    return types.intp(types.intp, types.intp), emit


@intrinsic
def atomic_store(typing, base, index, value):
    def emit(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, args), "seq_cst", 8)
        return context.get_dummy_value()
    return types.void(types.intp, types.intp, types.intp), emit


@intrinsic
def atomic_add(typing, base, index, value):
    """Add and return the value before."""
    def emit(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(builder, args), args[2], "seq_cst")
    return types.intp(types.intp, types.intp, types.intp), emit


@intrinsic
def atomic_swap_if(typing, base, index, expected, value):
    """Store `value` where `expected` stands; 1 when it did."""
    def emit(context, builder, signature, args):
        pair = builder.cmpxchg(_word(builder, args), args[2], args[3], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(pair, 1), I64)
    return types.intp(types.intp, types.intp, types.intp, types.intp), emit


@intrinsic
def stop_asked(typing):
    """The word that tells loops to end (`kernels.cpu.patience`)."""
    def emit(context, builder, signature, args):
        name = "engine_stop"
        found = builder.module.globals.get(name) or ir.GlobalVariable(builder.module, ir.IntType(64), name)
        return builder.load_atomic(found, "monotonic", 8)
    return types.int64(), emit


@intrinsic
def breathe(typing):
    """Tell the core that this is a spin loop (x86 `pause`, ARM `yield`)."""
    def emit(context, builder, signature, args):
        machine = builder.module.triple.split("-")[0]
        if machine in ("x86_64", "i686", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [I32])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint"), [ir.Constant(I32, 1)])
        return context.get_dummy_value()
    return types.void(), emit


@intrinsic
def clear_status(typing):
    """Clear the floating-point exception flags, so that NumPy does not warn of infinities and NaN (PyTorch does not).

    Flags are the low six bits of x86's MXCSR and the low five (and bit 7) of ARM's FPSR; elsewhere they stay.
    """
    def emit(context, builder, signature, args):
        machine = builder.module.triple.split("-")[0]
        if machine in ("x86_64", "AMD64"):
            with builder.goto_entry_block():
                status = builder.alloca(I32)
            kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer()])
            place = builder.bitcast(status, I8.as_pointer())
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr"), [place])
            builder.store(builder.and_(builder.load(status), ir.Constant(I32, ~0x3F)), status)
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr"), [place])
        elif machine in ("aarch64", "arm64"):
            get = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I64, []), "llvm.aarch64.get.fpsr")
            put = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [I64]), "llvm.aarch64.set.fpsr")
            builder.call(put, [builder.and_(builder.call(get, []), ir.Constant(I64, ~0x9F))])
        return context.get_dummy_value()
    return types.void(), emit
