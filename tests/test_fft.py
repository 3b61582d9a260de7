"""Fourier transforms against NumPy's, their derivatives against differences, sizes, dtypes and refusals.

The three records themselves are walked in test_book; here is what `engine.fft` adds: names, cutting and filling up, norms.
"""
import numpy as np
import pytest
from test_book import check_gradients

import engine
from engine import fft

NORMS = (None, "ortho", "forward")


def complex_normal(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def close(seen, expected, tol=1e-12):
    assert seen.numpy().dtype == expected.dtype
    np.testing.assert_allclose(seen.numpy(), expected, rtol=tol, atol=tol)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_one_dimension(name, norm, rng):
    real = name in ("rfft", "ihfft")
    for x in ([rng.normal(size=(3, 4, 5))] if real else [rng.normal(size=(3, 4, 5)), complex_normal(rng, 3, 4, 5)]):
        for n in (None, 1, 3, 8):
            for dim in (-1, 1):
                close(getattr(fft, name)(engine.from_numpy(x), n, dim, norm), getattr(np.fft, name)(x, n, dim, norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"])
def test_several_dimensions(name, norm, rng):
    x = rng.normal(size=(3, 4, 5)) if name.startswith("rfft") else complex_normal(rng, 3, 4, 5)
    t, f, g = engine.from_numpy(x), getattr(fft, name), getattr(np.fft, name)
    close(f(t, norm=norm), g(x, norm=norm))
    for s in ((2, 7), (6, 3)):
        close(f(t, s, (2, 0), norm), g(x, s, (2, 0), norm))
        close(f(t, s, norm=norm), g(x, s, (-2, -1), norm))
    close(f(t, (-1, 4), (0, 1), norm), g(x, (3, 4), (0, 1), norm))


@pytest.mark.parametrize("norm", NORMS)
def test_hermitian_over_several_dimensions(norm, rng):
    x, dims = complex_normal(rng, 3, 4, 5), (0, 2)
    swapped = {None: "forward", "ortho": "ortho", "forward": "backward"}[norm]
    close(fft.hfftn(engine.from_numpy(x), None, dims, norm), np.fft.irfftn(x.conj(), None, dims, swapped))
    close(fft.hfft2(engine.from_numpy(x), (3, 6), norm=norm), np.fft.irfftn(x.conj(), (3, 6), (-2, -1), swapped))
    y = x.real.copy()
    close(fft.ihfftn(engine.from_numpy(y), None, dims, norm), np.fft.rfftn(y, None, dims, swapped).conj())
    close(fft.ihfft2(engine.from_numpy(y), norm=norm), np.fft.rfftn(y, None, (-2, -1), swapped).conj())


def test_single_precision_integers_and_empty_stacks(rng):
    x = rng.normal(size=(4, 6)).astype(np.float32)
    t = engine.from_numpy(x)
    for f in (fft.fft, fft.rfft, fft.ifft, fft.fft2, fft.ihfft):
        assert f(t).dtype is engine.complex64
    assert fft.irfft(fft.rfft(t)).dtype is engine.float32
    close(fft.irfft(fft.rfft(t)), x, 1e-5)
    assert fft.fft(engine.arange(4)).dtype is engine.complex64
    assert fft.fft(engine.ones(0, 3)).shape == (0, 3)
    assert fft.rfft(engine.ones(0, 6)).shape == (0, 4)
    assert fft.irfft(engine.ones(0, 4)).shape == (0, 6)


def test_shifts_and_frequencies(rng):
    x = rng.normal(size=(5, 4))
    t = engine.from_numpy(x)
    for dim in (None, 0, (0, 1)):
        close(fft.fftshift(t, dim), np.fft.fftshift(x, dim))
        close(fft.ifftshift(t, dim), np.fft.ifftshift(x, dim))
    for n in (1, 4, 5):
        close(fft.fftfreq(n, 0.3, dtype=engine.float64), np.fft.fftfreq(n, 0.3))
        close(fft.rfftfreq(n, 0.3, dtype=engine.float64), np.fft.rfftfreq(n, 0.3))
    assert fft.fftfreq(4).dtype is engine.float32 and fft.fftfreq(4, requires_grad=True).requires_grad


@pytest.mark.parametrize("call, is_complex", [
    (lambda x: fft.fft(x, 5), False), (lambda x: fft.ifft(x, 3, 0), False), (lambda x: fft.rfft(x, 6), False),
    (lambda x: fft.irfft(x, 5), True), (lambda x: fft.irfft(x, 8, 1, "ortho"), True), (lambda x: fft.hfft(x), True),
    (lambda x: fft.ihfft(x, norm="forward"), False), (lambda x: fft.fft2(x, (2, 5)), True), (lambda x: fft.rfft2(x), False),
    (lambda x: fft.irfft2(x, (3, 7)), True), (lambda x: fft.fftshift(x), False)])
def test_gradients(call, is_complex, rng):
    check_gradients(call, [complex_normal(rng, 3, 4) if is_complex else rng.normal(size=(3, 4))], rng)


def test_names_of_nodes_and_out(rng):
    x = engine.from_numpy(rng.normal(size=4)).requires_grad_()
    z = engine.from_numpy(complex_normal(rng, 4)).requires_grad_()
    for result, name in ((fft.fft(x), "FftR2CBackward0"), (fft.fft(z), "FftC2CBackward0"), (fft.rfft(x), "FftR2CBackward0"),
                         (fft.irfft(z), "FftC2RBackward0"), (fft.hfft(z), "FftC2RBackward0"), (fft.ifft(x), "ConjBackward0")):
        assert result.grad_fn.name() == name
    out = engine.empty(4, dtype=engine.complex128)
    assert fft.fft(x.detach(), out=out) is out
    close(out, np.fft.fft(x.detach().numpy()))
    with pytest.raises(RuntimeError, match="fft expects a complex output tensor, but got Double"):
        fft.fft(x.detach(), out=engine.empty(4, dtype=engine.float64))
    with pytest.raises(RuntimeError, match="irfft expects a floating point output tensor"):
        fft.irfft(z.detach(), out=engine.empty(6, dtype=engine.complex128))


@pytest.mark.parametrize("call, error, words", [
    (lambda x: fft.fft(x.half()), RuntimeError, "Unsupported dtype Half"),
    (lambda x: fft.rfft(x + 1j), RuntimeError, "rfft expects a real input tensor, but got ComplexFloat"),
    (lambda x: fft.rfftn(x + 1j), RuntimeError, "rfftn expects a real-valued input tensor, but got ComplexFloat"),
    (lambda x: fft.ihfftn(x + 1j), RuntimeError, "Only supports floating-point dtypes, but found: ComplexFloat"),
    (lambda x: fft.fft(x, 0), RuntimeError, r"Invalid number of data points \(0\) specified"),
    (lambda x: fft.irfft(x[:, :1]), RuntimeError, r"Invalid number of data points \(0\) specified"),
    (lambda x: fft.fft(x, norm="no"), RuntimeError, 'Invalid normalization mode: "no"'),
    (lambda x: fft.fft(x, dim=2), IndexError, "Dimension out of range"),
    (lambda x: fft.fft(x[0, 0]), IndexError, "Dimension specified as -1 but tensor has no dimensions"),
    (lambda x: fft.fftn(x, (2, 2, 2)), RuntimeError, "Got shape with 3 values but input tensor only has 2 dimensions."),
    (lambda x: fft.fftn(x, (2, 2), (0,)), RuntimeError, "dim and shape arguments must have the same length"),
    (lambda x: fft.fftn(x, dim=(0, 0)), RuntimeError, "FFT dims must be unique"),
    (lambda x: fft.rfftn(x, dim=()), RuntimeError, "rfftn must transform at least one axis"),
    (lambda x: fft.irfftn(x, dim=()), RuntimeError, "irfftn must transform at least one axis"),
    (lambda x: fft.ihfftn(x, dim=()), RuntimeError, "ihfftn must transform at least one axis"),
    (lambda x: fft.fft([1.0]), TypeError, "argument 'input' .position 1. must be Tensor, not list"),
    (lambda x: fft.fft(x, 2.5), TypeError, "argument 'n' must be int, not float"),
    (lambda x: fft.fftfreq(2.5), TypeError, "argument 'n' .position 1. must be int, not float"),
    (lambda x: fft.fftfreq(2, dtype=engine.int64), RuntimeError, "fftfreq requires a floating point or complex dtype")])
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(engine.ones(3, 4))
