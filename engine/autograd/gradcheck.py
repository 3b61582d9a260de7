"""`gradcheck` and `gradgradcheck`: derivatives against central differences, Jacobian by Jacobian.

Numbers are compared as NumPy arrays. A complex input is varied along its real and its imaginary part; with the conjugate
Wirtinger convention the gradient of a real cotangent g is g dL/d(re) + i g dL/d(im), so complex outputs are checked
through their two parts.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, host, wrap
from ..walk import grad


class GradcheckError(RuntimeError):
    """Raised by `gradcheck` and `gradgradcheck` where derivatives are wrong."""


def gradcheck(func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_batched_forward_grad: bool = False,
              check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
              masked: bool | None = None) -> bool:
    """Compare the gradients of `func` at `inputs` with central differences of step `eps`.

    Every input that requires grad is checked, element by element, against every differentiable output: entries agree when
    |analytical - numerical| <= atol + rtol |numerical|. Also checked: that backward repeats itself (within `nondet_tol`),
    multiplies by the cotangent, and takes missing cotangents (`check_undefined_grad`); with `check_batched_grad`, stacked
    cotangents. `fast_mode` checks the same entries. Errors: GradcheckError (False where `raise_exception` is), ValueError
    for unsuitable inputs.
    """
    if not check_backward_ad and not check_forward_ad:
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_forward_ad or check_batched_forward_grad:
        raise NotImplementedError("gradcheck: forward-mode derivatives cannot be checked by this engine yet")
    inputs = _tuple(inputs)
    try:
        _check_inputs(inputs)
        outputs = _differentiable(func(*inputs))
        if not outputs:
            _check_no_gradient(func, inputs, eps)
            return True
        for k, output in enumerate(outputs):
            for j, x in _checked(inputs):
                _check_pair(func, inputs, outputs, k, output, j, x, eps, atol, rtol, nondet_tol, check_grad_dtypes)
            if check_batched_grad:
                _check_batched(inputs, output)
        _check_zero_cotangent(inputs, outputs)
        if check_undefined_grad:
            _check_undefined(inputs, _differentiable(func(*inputs)))
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3,
                  gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, nondet_tol: float = 0.0,
                  check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
                  check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True, fast_mode: bool = False,
                  masked: bool = False) -> bool:
    """Compare second derivatives with central differences of the first ones.

    `grad_outputs`: the cotangents of the first derivative; random ones that require grad by default. Otherwise as `gradcheck`.
    """
    if check_fwd_over_rev:
        raise NotImplementedError("gradgradcheck: forward over reverse cannot be checked by this engine yet")
    inputs = _tuple(inputs)
    if grad_outputs is None:
        generator = np.random.default_rng(0)
        cotangents = tuple(_random_like(o, generator, gen_non_contig_grad_outputs) for o in _differentiable(func(*inputs)))
    else:
        cotangents = _tuple(grad_outputs)
    count = len(cotangents)

    def first_gradients(*args):
        xs, gs = args[:len(args) - count], args[len(args) - count:]
        wanted = [x for k, x in enumerate(xs) if k in needed]
        found = grad(_differentiable(func(*xs)), wanted, gs, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)
    needed = {k for k, x in enumerate(inputs) if _floating(x) and x.requires_grad}
    return gradcheck(first_gradients, inputs + cotangents, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
                     check_batched_grad=check_batched_grad, fast_mode=fast_mode, masked=masked)


# --- what goes in and out ---------------------------------------------------------------------------------------------

def _tuple(x) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x._kind.dtype.category >= 2


def _checked(inputs: tuple):
    """(position, input) of the inputs whose gradient is checked."""
    return [(k, x) for k, x in enumerate(inputs) if _floating(x) and x.requires_grad]


def _differentiable(outputs) -> tuple:
    return tuple(o for o in _tuple(outputs) if isinstance(o, Tensor) and o.requires_grad)


def _check_inputs(inputs: tuple) -> None:
    checked = _checked(inputs)
    if not checked:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have "
                         "requires_grad=True.")
    for k, x in checked:
        if x._kind.dtype not in (dtypes.float64, dtypes.complex128):
            warnings.warn(f"Input #{k} requires gradient and is not a double precision floating point or complex. This "
                          "check will likely "
                          "fail if all the inputs are not of double precision floating point or complex. ", stacklevel=3)
        if any(not step and n > 1 for step, n in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                               "non-overlapping to "
                               "be able to compute the numerical gradients correctly. You should call .contiguous on the "
                               "input before passing it to gradcheck.")


def _random_like(t: Tensor, generator, strided: bool) -> Tensor:
    """A cotangent for `gradgradcheck`."""
    shape = (*t.shape, 2) if strided and t.ndim else tuple(t.shape)
    values = generator.uniform(0.1, 1.0, shape)
    if t._kind.dtype.is_complex:
        values = values + 1j * generator.uniform(0.1, 1.0, shape)
    values = values.astype(t._kind.numpy)
    made = wrap(values[..., 0] if strided and t.ndim else values, t._kind)
    made._needs = True
    return made


# --- Jacobians --------------------------------------------------------------------------------------------------------

def _ends(func: Callable, inputs: tuple, j: int, n: int, step: complex, wanted: Callable) -> list[list[np.ndarray]]:
    """The `wanted` ones of what `func` returns with the n-th element of input j a step larger, and a step smaller.

    The input itself is changed for the while, as in PyTorch: what reaches it by another way (a closure, a module's parameter, a
    second place among the inputs) sees the change as well.
    """
    array = inputs[j]._array
    place = np.unravel_index(n, array.shape)
    kept, ends = array[place].item(), []
    was, modes.enabled = modes.enabled, True
    try:
        for sign in (1, -1):
            array[place] = kept + sign * step
            ends.append([np.array(host(o)) for o in wanted(func(*inputs))])         # copies: they may share the input's memory
    finally:
        array[place], modes.enabled = kept, was
    return ends


def _numerical(func: Callable, inputs: tuple, j: int, k: int, eps: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Jacobians (input j, output k) by central differences along real and imaginary steps (or None)."""
    x = inputs[j]
    tables = []
    for unit in (1.0, 1j) if x._kind.dtype.is_complex else (1.0,):
        rows = []
        for n in range(x.numel()):
            above, below = (end[k].reshape(-1) for end in _ends(func, inputs, j, n, eps * unit, _differentiable))
            if above.shape != below.shape:
                raise GradcheckError(f"Expected f(x + eps) and f(x - eps) to have the same shape, got {above.shape} and "
                                     f"{below.shape}")
            rows.append((above - below) / (2 * eps))
        tables.append(np.array(rows).reshape(x.numel(), -1))
    return tables[0], tables[1] if len(tables) > 1 else None


def _analytical(output: Tensor, x: Tensor, unit: complex) -> tuple[np.ndarray, Tensor | None]:
    """Gradients of `x` (elements of x, elements of output) for the cotangent `unit` at one element after another."""
    size = output.numel()
    table = np.zeros((x.numel(), size), x._kind.numpy)
    g = None
    for n in range(size):
        cotangent = np.zeros(size, output._kind.numpy)
        cotangent[n] = unit
        (found,) = grad(output, x, wrap(cotangent.reshape(output.shape), output._kind), retain_graph=True, allow_unused=True)
        if found is not None:
            if found.shape != x.shape:
                raise GradcheckError("Analytical gradient has incorrect size")
            g = found
            table[:, n] = np.asarray(host(found)).reshape(-1)
    return table, g


def _check_pair(func, inputs, outputs, k, output, j, x, eps, atol, rtol, nondet_tol, check_dtypes) -> None:
    """One output against one input."""
    along_real, along_imaginary = _numerical(func, inputs, j, k, eps)
    for part, unit in (("real", 1), ("imaginary", 1j)) if output._kind.dtype.is_complex else (("", 1),):
        analytical, g = _analytical(output, x, unit)
        again, _ = _analytical(output, x, unit)
        if analytical.size and np.nanmax(np.abs(analytical - again), initial=0.0) > nondet_tol:
            raise GradcheckError("Backward is not reentrant, i.e., running backward with same input and grad_output "
                                 "multiple times gives "
                                 "different values, although analytical gradient matches numerical gradient."
                                 f"The tolerance for nondeterminism was {nondet_tol}.")
        if check_dtypes and g is not None and g._kind is not x._kind:
            raise GradcheckError("Gradient has dtype mismatch")
        # for the cotangent 1 the loss is the output's real part, for 1j its imaginary part
        take = np.imag if part == "imaginary" else np.real
        numerical = take(along_real)
        if along_imaginary is not None:
            numerical = numerical + 1j * take(along_imaginary)
        if not np.allclose(analytical, numerical, rtol=rtol, atol=atol, equal_nan=True):
            told = f"While considering the {part} part of complex outputs only, " if part else ""
            if along_imaginary is not None:
                told += "While considering the conjugate Wirtinger derivative of complex inputs, "
            raise GradcheckError(f"{told}Jacobian mismatch for output {k:d} with respect to input {j:d},\n"
                                 f"numerical:{_shown(numerical)}\nanalytical:{_shown(analytical)}\n")


def _shown(table: np.ndarray) -> str:
    return repr(wrap(np.ascontiguousarray(table), KIND_OF_NUMPY[table.dtype]))


# --- the other checks ---------------------------------------------------------------------------------------------------

def _check_no_gradient(func, inputs, eps) -> None:
    """Outputs that do not require grad must not depend on inputs that do."""
    for j, x in _checked(inputs):
        for n in range(x.numel()):
            above, below = _ends(func, inputs, j, n, eps, lambda outputs: [o for o in _tuple(outputs) if _floating(o)])
            if any((a != b).any() for a, b in zip(above, below, strict=True)):
                raise GradcheckError("Numerical gradient for function expected to be zero")


def _check_zero_cotangent(inputs, outputs) -> None:
    """Gradients are linear in the cotangent: none of it, nothing comes back."""
    wanted = [x for _, x in _checked(inputs)]
    zeros = [wrap(np.zeros(o.shape, o._kind.numpy), o._kind) for o in outputs]
    for g, x in zip(grad(outputs, wanted, zeros, retain_graph=True, allow_unused=True), wanted, strict=True):
        if g is None:
            continue
        if np.any(np.asarray(host(g)) != 0):
            raise GradcheckError("backward not multiplied by grad_output")
        if g._kind is not x._kind:
            raise GradcheckError("grad is incorrect type")
        if g.shape != x.shape:
            raise GradcheckError("grad is incorrect size")


def _check_undefined(inputs, outputs) -> None:
    """Backward must accept that some of its cotangents are missing, and treat them as zeros."""
    wanted = [x for _, x in _checked(inputs)]
    for output in outputs if len(outputs) > 1 else ():
        zero = wrap(np.zeros(output.shape, output._kind.numpy), output._kind)
        try:
            found = grad(output, wanted, zero, retain_graph=True, allow_unused=True)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise GradcheckError("Expected backward function to handle undefined output grads: a result that is not used "
                                 "brings no gradient (None), or zeros where ctx.set_materialize_grads is on.") from error
        if any(g is not None and np.any(np.asarray(host(g)) != 0) for g in found):
            raise GradcheckError("Expected all input grads to be undefined or zero when all output grads are undefined or "
                                 "zero.")


def _check_batched(inputs, output) -> None:
    """Stacked cotangents give the stacked gradients."""
    wanted = [x for _, x in _checked(inputs)]
    generator = np.random.default_rng(1)
    rows = [_random_like(output, generator, False).detach() for _ in range(2)]
    stacked = wrap(np.array([host(r) for r in rows]), output._kind)
    try:
        batched = grad(output, wanted, stacked, retain_graph=True, allow_unused=True, is_grads_batched=True)
    except RuntimeError as error:
        raise GradcheckError(f"While computing batched gradients, got: {error}") from error
    for n, row in enumerate(rows):
        for b, g in zip(batched, grad(output, wanted, row, retain_graph=True, allow_unused=True), strict=True):
            if (b is None) != (g is None) or (g is not None and not np.allclose(host(b)[n], host(g))):
                raise GradcheckError("Batched gradients differ from gradients taken one by one")
