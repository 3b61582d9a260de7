"""Numba's compiler without what a kernel has no use for: three times faster, and the same machine code.

Numba makes every function callable from Python: two wrappers, its own optimisation, its own machine code, all for functions that
end up inlined into one kernel. Here a function is lowered to LLVM's language only; the kernel with all that it calls is optimised
once and becomes object code without going through Numba's engine. Functions of others (a user's own jitted function that a
scalar function calls, Numba's implementations of Python's built-ins) still get everything. Called by `kernels.cpu.compiler`.
"""
from __future__ import annotations

import contextlib
import gc
import importlib.util
from collections.abc import Callable, Iterator

from llvmlite import binding, ir
from numba import _dynfunc, config, njit, types
from numba.core import compiler_machinery, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock

RAISES = "kernel_raises"        # called where a function has raised; left in a kernel's code, it tells that it may

# What one of our own functions goes through; left out is what serves arrays, closures, generators and literal types.
_PASSES = (untyped_passes.TranslateByteCode, untyped_passes.FixupArgs, untyped_passes.IRProcessing,
           untyped_passes.RewriteSemanticConstants, untyped_passes.DeadBranchPrune, untyped_passes.GenericRewrites,
           untyped_passes.RewriteDynamicRaises, untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference,
           typed_passes.PreLowerStripPhis, typed_passes.NoPythonSupportedFeatureValidation, typed_passes.IRLegalization,
           typed_passes.AnnotateTypes, typed_passes.NativeLowering, typed_passes.NoPythonBackend)


class Compiler(CompilerBase):
    """The passes above, in their order."""

    def define_pipelines(self):
        manager = compiler_machinery.PassManager("kernel")
        for step in _PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Apart(typed_passes.NativeLowering):
    """Lowering of a function that stays one."""

    _name = "lowering_apart"

    def run_pass(self, state):
        super().run_pass(state)
        state.library._final_module.get_function(state.cr.fndesc.llvm_func_name).add_function_attribute("noinline")
        return True


class _CompilerApart(CompilerBase):
    """As `Compiler`, for a function that is not inlined."""

    def define_pipelines(self):
        manager = compiler_machinery.PassManager("shared")
        for step in _PASSES:
            step = _Apart if step is typed_passes.NativeLowering else step
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class _Library(JITCodeLibrary):
    """The LLVM code of one function and of what it calls, not optimised until the kernel is whole."""

    def add_llvm_module(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout
        self._final_module.link_in(ll_module)

    def finalize(self):
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def defines(self, name: str) -> bool:
        try:
            return not self._final_module.get_function(name).is_declaration
        except NameError:
            return False


def function(python: Callable, own: bool = True, **options):
    """A Python function that compiled code may call, always inlined; `own`: it is written for this project."""
    if own:
        options["pipeline_class"] = Compiler
    return njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(python)


def shared(python: Callable):
    """As `function`, but called, not inlined, and compiled once for all constants that it is called with, not for each of them."""
    made = njit(error_model="numpy", forceinline=False, no_cpython_wrapper=True, no_cfunc_wrapper=True,
                pipeline_class=_CompilerApart)(python)
    template = made.get_call_template
    made.get_call_template = lambda args, kws: template(tuple(types.unliteral(a) for a in args), kws)
    return made


def object_code(kernel, signature, symbol: str, processor: str = "", lanes: bool = False) -> tuple[list[str], bytes]:
    """The symbols that a kernel (from `function`) leaves to the dynamic linker, and its object code, which defines `symbol`.

    `processor`: the one that the code is for, in LLVM's words; "" for this machine's. `lanes`: the kernel keeps running states in
    memory of its own. Optimised once by itself and once more as a whole, LLVM keeps them in vector registers; in one go it does
    not, and a maximum takes twice the time.
    """
    from numba.core.registry import cpu_target
    target = cpu_target.target_context
    with global_compiler_lock, _lean(target), _processor(target.codegen(), processor):
        kernel.compile(signature)
        compiled = kernel.overloads[signature.args]
        library = compiled.library
        module, codegen = library._final_module, library.codegen
        if lanes:
            manager, builder = codegen._module_pass_manager()
            manager.run(module, builder)
        library.add_llvm_module(binding.parse_assembly(str(_entry(target, compiled.fndesc, symbol))))
        for item in (*module.functions, *module.global_variables):
            if not item.is_declaration and item.name != symbol and not item.name.startswith("llvm."):
                item.linkage = "internal"
        manager, builder = codegen._module_pass_manager()
        manager.run(module, builder)
        code = codegen._tm.emit_object(module)
        declared = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
        return [name for name in declared if name.encode() in code], code


def _entry(target, about, symbol: str):
    """A module with the function to look up: the kernel by C's conventions, without Numba's status code."""
    module = target.create_module("entry")
    kernel = ir.Function(module, target.call_conv.get_function_type(about.restype, about.argtypes), about.llvm_func_name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [target.get_value_type(t) for t in about.argtypes]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, _ = target.call_conv.call_function(builder, kernel, about.restype, about.argtypes, entry.args)
    with builder.if_then(status.is_error, likely=False):
        builder.call(ir.Function(module, ir.FunctionType(ir.VoidType(), []), RAISES), [])
    builder.ret_void()
    return module


@contextlib.contextmanager
def _lean(target) -> Iterator[None]:
    """While it lasts, Numba makes functions without wrappers the short way. Its compiler lock must be held."""
    codegen = target.codegen()
    plain = target.get_executable

    def executable(library, about, environment):
        if library.defines(about.llvm_cpython_wrapper_name):        # somebody may call it from Python
            library.__class__ = JITCodeLibrary
            return plain(library, about, environment)
        library._ensure_finalized()
        return _dynfunc.make_function(about.lookup_module(), about.qualname, "", 0, environment, (library,))
    was_on = gc.isenabled()
    gc.disable()                # what a compiler makes lives until the end: there is nothing to collect
    codegen._library_class, target.get_executable = _Library, executable
    try:
        yield
    finally:
        del codegen._library_class, target.get_executable
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _processor(codegen, name: str) -> Iterator[None]:
    """While it lasts, code is made for another processor."""
    if not name:
        yield
        return
    own, options = codegen._tm, {"opt": config.OPT}
    codegen._customize_tm_options(options)
    options.update(cpu=name, features="")
    codegen._tm = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(**options)
    try:
        yield
    finally:
        codegen._tm = own


def load_typing_tables() -> None:
    """Numba's array functions, which every first compilation loads, without importing SciPy's linear algebra for them (0.2 s).

    They import it to see whether it is there; what finds a package tells as well. Numba checks again where it is used.
    """
    from numba.np import linalg
    check = linalg.ensure_blas
    if importlib.util.find_spec("scipy") is None:
        return
    linalg.ensure_blas = lambda: None
    try:
        from numba.np import arraymath
        arraymath.ensure_blas = check
    finally:
        linalg.ensure_blas = check
