"""What numba must know to compile libm: instructions for the primitives, variants for the public functions.

Imported only when something is compiled, since it imports numba; `register()` is called once before that.  The
functions themselves are in libm*.py.  Compiled code allocates nothing, raises nothing, and refers to no symbol but
the C library's fmod, lgamma, sin, cos and tan (and fma on a CPU that has no such instruction).
"""

import threading
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

from . import libm, libm_base, libm_rare

_LOCK = threading.Lock()
_DONE = set()

# Every function is inlined: a call would stop the vectoriser, and would leave numba's names in the object file.
OPTIONS = {"error_model": "numpy", "forceinline": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_INT32, _BOOL, _DOUBLE = ir.IntType(32), ir.IntType(1), ir.DoubleType()
_MAX_LANES = {"float": 32, "double": 16}


def register(api=extending, options: dict = OPTIONS, library: Callable | None = None) -> None:
    """Make libm usable inside compiled functions for float32, float64, complex64, complex128; others count as float64.

    `api`: Numba's decorators for the target, `options`: how functions are compiled for it; `library(name)`: where the target is not
    the CPU (kernels.cuda.lowering), code for the functions that are instructions or the C library's. Idempotent and thread-safe.
    """
    with _LOCK:
        if api.__name__ in _DONE:
            return
        _register_primitives(api, library)
        for helper in dict.fromkeys([*libm.HELPERS, *libm_rare.HELPERS]):
            api.register_jitable(**options)(helper)
        for function, variants in [*libm.VARIANTS.items(), *libm_rare.VARIANTS.items()]:
            if function not in libm_base.PRIMITIVES:
                api.overload(function, jit_options=options, strict=False)(_chooser(variants))
        _DONE.add(api.__name__)


def _chooser(variants: dict) -> Callable:
    """The typing function of one public function: numba types of the arguments -> the function to compile."""

    def choose(*args):
        args = [types.unliteral(a) for a in args]
        if any(isinstance(a, types.Complex) for a in args):
            if "complex" not in variants:
                return None
            narrow = all(a in (types.complex64, types.float32) for a in args)
            return _converted(variants["complex"], len(args), np.complex128, _narrow if narrow else None)
        if not all(isinstance(a, (types.Float, types.Integer, types.Boolean)) for a in args):
            return None
        if all(a == types.float32 for a in args):
            return _converted(variants["float32"], len(args), None, None)
        cast = None if all(a == types.float64 for a in args) else np.float64
        return _converted(variants["float64"], len(args), cast, None)

    return choose


def _converted(function, count, cast, back):
    """`function` of one or two arguments with its arguments passed through `cast` and its result through `back`."""
    if cast is None:
        if function in libm_base.PRIMITIVES:
            return lambda x: function(x)
        return function
    if back is None:
        if count == 1:
            return lambda x: function(cast(x))
        return lambda x, y: function(cast(x), cast(y))
    if count == 1:
        return lambda x: back(function(cast(x)))
    return lambda x, y: back(function(cast(x), cast(y)))


def _narrow(x):
    """complex128 -> complex64, float64 -> float32; the marker that `type_callable` gets below."""
    raise NotImplementedError("compiled code only")


# --- Primitives -------------------------------------------------------------------------------------------------------


def _common(args) -> types.Type:
    """float32 if all arguments are, else float64."""
    return types.float32 if all(a == types.float32 for a in args) else types.float64


def _define(api, function: Callable, typer: Callable, codegen: Callable) -> None:
    """Tell numba the result type of a function, and the instructions for it."""

    @api.type_callable(function)
    def type_function(context):
        return typer

    api.lower_builtin(function, types.VarArg(types.Any))(codegen)


def _intrinsic(name: str) -> Callable:
    """Code for an LLVM intrinsic whose operands and result have one type."""

    def codegen(context, builder, sig, args):
        function = builder.module.declare_intrinsic(name, [args[0].type], _same(args[0].type, len(args)))
        return builder.call(function, args)

    return codegen


def _library(name: str) -> Callable:
    """Code on the CPU for what is one instruction there, and for what the C library serves."""
    if name in ("sin", "cos", "tan", "fmod"):
        return _beyond_codegen(name)
    return _c_lgamma if name == "lgamma" else _intrinsic(f"llvm.{name}")


def _same(kind: ir.Type, count: int) -> ir.FunctionType:
    return ir.FunctionType(kind, [kind] * count)


def _register_primitives(api, library: Callable | None) -> None:
    library = library or _library

    def define(function, typer, codegen):
        _define(api, function, typer, codegen)

    def unary(x):
        return _common((x,))(_common((x,)))

    def binary(x, y):
        kind = _common((x, y))
        return kind(kind, kind)

    def ternary(x, y, z):
        kind = _common((x, y, z))
        return kind(kind, kind, kind)

    define(libm_base.fma, ternary, library("fma"))
    define(libm_base.copysign, binary, library("copysign"))
    for name in ("fabs", "sqrt", "floor", "ceil", "trunc", "rint"):
        define(getattr(libm_base, name), unary, library(name))
    define(libm_base.poly, lambda x, c: x(x, c), _poly)
    define(libm_base.unordered, lambda x, y: types.boolean(_common((x, y)), _common((x, y))), _unordered)
    define(libm_base.select, _type_select, _select)
    define(libm_base.bits, lambda x: (types.int32 if x == types.float32 else types.int64)(x), _bitcast)
    define(libm_base.from_bits, _type_from_bits, _bitcast)
    define(libm_base.from_bits32, lambda i: types.float32(i), _from_bits32)
    define(libm_base.from_bits64, lambda i: types.float64(types.int64), _bitcast)
    for name in ("sin", "cos", "tan"):
        define(getattr(libm_base, f"beyond_{name}"), binary, library(name))
    define(libm_base.beyond_fmod, lambda x, y, quotient, result: x(x, x, x, x), library("fmod"))
    define(libm_base.c_lgamma, lambda x: types.float64(types.float64), library("lgamma"))
    define(_narrow, lambda x: _type_narrow(x)(x), _narrow_codegen)


def _poly(context, builder, sig, args):
    x, c = args
    kind = x.type
    function = builder.module.declare_intrinsic("llvm.fma", [kind], _same(kind, 3))
    value = builder.extract_value(c, len(sig.args[1]) - 1)
    for i in range(len(sig.args[1]) - 2, -1, -1):
        value = builder.call(function, [value, x, builder.extract_value(c, i)])
    return value


def _unordered(context, builder, sig, args):
    return builder.fcmp_unordered("uno", *args)


def _type_select(condition, a, b):
    a, b = types.unliteral(a), types.unliteral(b)
    if a == b:
        kind = a
    elif isinstance(a, types.Integer) and isinstance(b, types.Integer):
        kind = types.int64
    else:
        kind = _common((a, b))
    return kind(types.boolean, kind, kind)


def _select(context, builder, sig, args):
    return builder.select(*args)


def _type_from_bits(i):
    return types.float32(i) if i in (types.int32, types.uint32) else types.float64(types.int64)


def _bitcast(context, builder, sig, args):
    return builder.bitcast(args[0], context.get_value_type(sig.return_type))


def _from_bits32(context, builder, sig, args):
    pattern = args[0] if args[0].type.width <= 32 else builder.trunc(args[0], _INT32)
    return builder.bitcast(builder.zext(pattern, _INT32) if pattern.type.width < 32 else pattern, ir.FloatType())


def _c_lgamma(context, builder, sig, args):
    return builder.call(cgutils.get_or_insert_function(builder.module, _same(_DOUBLE, 1), "lgamma"), args)


def _type_narrow(x):
    return {types.complex128: types.complex64, types.float64: types.float32}.get(x, x)


def _narrow_codegen(context, builder, sig, args):
    return context.cast(builder, args[0], sig.args[0], sig.return_type)


# --- Rare cases out of line -------------------------------------------------------------------------------------------


def _beyond_codegen(name: str) -> Callable:
    def codegen(context, builder, sig, args):
        return builder.call(_beyond_function(builder.module, name, args[0].type), args)

    return codegen


def _beyond_function(module: ir.Module, name: str, scalar: ir.Type) -> ir.Function:
    """The function behind `beyond_sin` and its kin: scalar, with a twin for every vector width.

    The attribute "vector-function-abi-variant" (LLVM language reference, Call Site Attributes) names the twins, so
    the loop vectoriser puts a call of the right one where the call of the scalar function was.  A twin for 4 lanes:

        define <4 x float> @libm_beyond_sin_float_4(<4 x float> %x, <4 x float> %result) {
            if any lane of |x| > limit: for each such lane: result[lane] = (float) sin((double) x[lane])
            return result
        }

    Nothing calls the twins before vectorisation, so llvm.compiler.used keeps them.
    """
    symbol = f"libm_beyond_{name}_{scalar}"
    if symbol in module.globals:
        return module.globals[symbol]
    single = isinstance(scalar, ir.FloatType)
    if name == "fmod":
        operands, tested, limit = 2, 2, 2.0**23 if single else 2.0**52
    else:
        operands, tested, limit = 1, 0, float(libm_base.TRIG_LIMIT[np.float32 if single else np.float64])
    parameters = 4 if name == "fmod" else 2
    library = cgutils.get_or_insert_function(module, _same(_DOUBLE, operands), name)
    twins, mapping = [], []
    lanes = 2
    while lanes <= _MAX_LANES[str(scalar)]:
        twin = _new_function(module, f"{symbol}_{lanes}", ir.VectorType(scalar, lanes), parameters)
        _fill_beyond(twin, library, operands, tested, limit, lanes)
        twins.append(twin)
        mapping.append(f"_ZGV_LLVM_N{lanes}{'v' * parameters}_{symbol}({twin.name})")
        lanes *= 2
    function = _new_function(module, symbol, scalar, parameters)
    # llvmlite checks attributes against a list of names; this one is a pair of strings.
    set.add(function.attributes, f'"vector-function-abi-variant"="{",".join(mapping)}"')
    _fill_beyond(function, library, operands, tested, limit, 1)
    _keep(module, twins)
    return function


def _new_function(module, symbol, kind, parameters):
    function = ir.Function(module, _same(kind, parameters), symbol)
    function.linkage = "linkonce_odr"
    for attribute in ("noinline", "nounwind", "readnone"):
        function.attributes.add(attribute)
    return function


def _keep(module: ir.Module, functions: list) -> None:
    """Add functions to llvm.compiler.used, which holds what must survive though nothing refers to it yet."""
    pointer = ir.IntType(8).as_pointer()
    used = module.globals.get("llvm.compiler.used")
    kept = [] if used is None else list(used.initializer.constant)
    kept.extend(function.bitcast(pointer) for function in functions)
    kind = ir.ArrayType(pointer, len(kept))
    if used is None:
        used = ir.GlobalVariable(module, kind, "llvm.compiler.used")
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.initializer = kind, ir.Constant(kind, kept)


def _fill_beyond(function, library, operands, tested, limit, lanes) -> None:
    """The body: `result`, but for lanes whose argument number `tested` is beyond `limit` what the library returns.

    The library function works in double precision on the first `operands` arguments.
    """
    arguments, result = function.args[:operands], function.args[-1]
    kind = result.type
    scalar = kind if lanes == 1 else kind.element
    entry, slow, done = (function.append_basic_block(name) for name in ("entry", "slow", "done"))
    builder = ir.IRBuilder(entry)
    suffix = "f32" if isinstance(scalar, ir.FloatType) else "f64"
    fabs_name = f"llvm.fabs.{suffix}" if lanes == 1 else f"llvm.fabs.v{lanes}{suffix}"
    fabs = cgutils.get_or_insert_function(function.module, _same(kind, 1), fabs_name)
    bound = ir.Constant(kind, limit if lanes == 1 else [limit] * lanes)
    beyond = builder.fcmp_ordered(">=", builder.call(fabs, [function.args[tested]]), bound)

    def call_library(values):
        wide = [value if scalar == _DOUBLE else builder.fpext(value, _DOUBLE) for value in values]
        value = builder.call(library, wide)
        return value if scalar == _DOUBLE else builder.fptrunc(value, scalar)

    if lanes == 1:
        builder.cbranch(beyond, slow, done)
        builder.position_at_end(slow)
        replaced, last = call_library(arguments), slow
        builder.branch(done)
    else:
        mask = ir.VectorType(_BOOL, lanes)
        any_type = ir.FunctionType(_BOOL, [mask])
        any_lane = cgutils.get_or_insert_function(function.module, any_type, f"llvm.vector.reduce.or.v{lanes}i1")
        builder.cbranch(builder.call(any_lane, [beyond]), slow, done)
        call, last = function.append_basic_block("call"), function.append_basic_block("next")
        builder.position_at_end(slow)
        lane, current = builder.phi(_INT32), builder.phi(kind)
        builder.cbranch(builder.extract_element(beyond, lane), call, last)
        builder.position_at_end(call)
        value = call_library([builder.extract_element(argument, lane) for argument in arguments])
        updated = builder.insert_element(current, value, lane)
        builder.branch(last)
        builder.position_at_end(last)
        replaced = builder.phi(kind)
        replaced.add_incoming(current, slow)
        replaced.add_incoming(updated, call)
        following = builder.add(lane, _INT32(1))
        lane.add_incoming(_INT32(0), entry)
        lane.add_incoming(following, last)
        current.add_incoming(result, entry)
        current.add_incoming(replaced, last)
        builder.cbranch(builder.icmp_unsigned("<", following, _INT32(lanes)), slow, done)
    builder.position_at_end(done)
    out = builder.phi(kind)
    out.add_incoming(result, entry)
    out.add_incoming(replaced, last)
    builder.ret(out)
