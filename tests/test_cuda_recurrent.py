"""Recurrent layers on CUDA beside the CPU: what each record leaves for the way back, and whole layers with their gradients."""
import numpy as np
import pytest
from cuda_checks import WHOLE, agree, needs_numba_cuda

import engine
from kernels.book import BOOK

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]
DTYPES = ("float32", "float64", "float16") if WHOLE else ("float32",)
LAYERS = [("lstm_layer", 4, {}), ("gru_layer", 3, {}), ("rnn_layer", 1, {"activation": "tanh"}),
          ("rnn_layer", 1, {"activation": "relu"})]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "gates", "options"), LAYERS)
def test_steps(name, gates, options, dtype, rng):
    def array(*shape):
        return (rng.standard_normal(shape) / 2).astype(dtype)
    size, batch = 5, 3
    for sizes, reverse in (((3, 3, 2), False), ((3, 1), True)):
        given = [array(sum(sizes), gates * size), array(batch, size), *([array(batch, size)] if gates == 4 else []),
                 array(size, gates * size).T, *([array(gates * size)] if gates == 3 else [])]
        want = BOOK[name].on_arrays(*given, sizes=sizes, reverse=reverse, **options)
        got = BOOK[name](*(engine.tensor(g, device="cuda") for g in given), sizes=sizes, reverse=reverse, **options)
        for w, g in zip(want, got, strict=True):
            assert g.is_cuda
            agree(g.cpu().numpy(), w, 16, 1.0)


@pytest.mark.parametrize("layer", [engine.nn.LSTM, engine.nn.GRU, engine.nn.RNN] if WHOLE else [engine.nn.LSTM])
def test_layers(layer):
    found = []
    for device in ("cpu", "cuda"):
        engine.manual_seed(1)
        net, x = layer(3, 4, bidirectional=True, batch_first=True).to(device), engine.randn(2, 3, 3).to(device).requires_grad_()
        y, _ = net(x)
        y.square().sum().backward()
        found.append([t.detach().cpu().numpy() for t in (y, x.grad, *(p.grad for p in net.parameters()))])
    for w, g in zip(*found, strict=True):
        agree(g, w, 32, float(np.abs(w).max()))
