"""Recurrent layers and cells, packed and padded sequences: against the equations in NumPy, gradients by finite differences."""
import pickle

import numpy as np
import pytest

import engine
from engine import nn
from engine.nn.recurrent import run_layer
from engine.nn.utils import rnn

D = engine.float64
LAYERS = {"LSTM": (nn.LSTM, {}), "GRU": (nn.GRU, {}), "RNN_TANH": (nn.RNN, {}), "RNN_RELU": (nn.RNN, {"nonlinearity": "relu"})}
CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN_TANH": nn.RNNCell}


# --- the equations ----------------------------------------------------------------------------------------------------

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(mode, x, h, c, w):
    """One step for a batch; `w` maps names without layer to arrays, biases may be missing. The new state and cell."""
    a = x @ w["weight_ih"].T + w.get("bias_ih", 0)
    b = h @ w["weight_hh"].T + w.get("bias_hh", 0)
    if mode == "LSTM":
        i, f, g, o = np.split(a + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h @ w["weight_hr"].T if "weight_hr" in w else h), c
    if mode == "GRU":
        (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3, axis=-1), np.split(b, 3, axis=-1)
        r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
        return (1 - z) * np.tanh(a_n + r * b_n) + z * h, c
    return (np.tanh(a + b) if mode == "RNN_TANH" else np.maximum(a + b, 0)), c


def one_sequence(mode, layer, x, h0, c0):
    """All layers and directions of a module for one sequence (steps, input): outputs, last states, last cells."""
    arrays = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    hs, cs, k = [], [], 0
    for number in range(layer.num_layers):
        outs = []
        for suffix in ("", "_reverse")[:2 if layer.bidirectional else 1]:
            end = f"_l{number}{suffix}"
            w = {name.removesuffix(end): a for name, a in arrays.items() if name.endswith(end)}
            h, c, out = h0[k:k + 1], c0[k:k + 1], []
            for row in x[::-1] if suffix else x:
                h, c = step(mode, row[None], h, c, w)
                out.append(h[0])
            outs.append(np.array(out[::-1] if suffix else out))
            hs.append(h[0])
            cs.append(c[0])
            k += 1
        x = np.concatenate(outs, 1)
    return x, np.array(hs), np.array(cs)


def build(mode, rng, **options):
    """A layer 4 -> 5 in float64 whose weights are large enough to matter."""
    kind, more = LAYERS[mode]
    layer = kind(4, 5, dtype=D, **more, **options)
    with engine.no_grad():
        for p in layer.parameters():
            p.copy_(engine.tensor(rng.normal(size=tuple(p.shape)) * 0.5))
    return layer


def start(layer, rng, batch):
    """Initial states: as arrays, and as the layer takes them."""
    count, proj = layer.num_layers * (2 if layer.bidirectional else 1), layer.proj_size or layer.hidden_size
    h, c = rng.normal(size=(count, batch, proj)), rng.normal(size=(count, batch, layer.hidden_size))
    hx = (engine.tensor(h), engine.tensor(c)) if layer.mode == "LSTM" else engine.tensor(h)
    return h, c, hx


def check_states(seen, hs, cs):
    h, c = seen if isinstance(seen, tuple) else (seen, None)
    np.testing.assert_allclose(h.detach().numpy(), hs, rtol=1e-12, atol=1e-13)
    if c is not None:
        np.testing.assert_allclose(c.detach().numpy(), cs, rtol=1e-12, atol=1e-13)


OPTIONS = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}, {"bidirectional": True, "batch_first": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", LAYERS)
def test_layer_follows_its_equations(mode, options, rng):
    layer = build(mode, rng, **options)
    x, (h, c, hx) = rng.normal(size=(6, 3, 4)), start(layer, rng, 3)
    given = engine.tensor(x.transpose(1, 0, 2) if layer.batch_first else x)
    out, last = layer(given, hx)
    parts = [one_sequence(mode, layer, x[:, b], h[:, b], c[:, b]) for b in range(3)]
    outs, hs, cs = (np.stack(p, 1) for p in zip(*parts, strict=True))
    seen = out.transpose(0, 1) if layer.batch_first else out
    np.testing.assert_allclose(seen.detach().numpy(), outs, rtol=1e-12, atol=1e-13)
    check_states(last, hs, cs)
    # one sequence without a batch, from zeros
    out, last = layer(engine.tensor(x[:, 1]))
    outs, hs, cs = one_sequence(mode, layer, x[:, 1], h[:, 1] * 0, c[:, 1] * 0)
    np.testing.assert_allclose(out.detach().numpy(), outs, rtol=1e-12, atol=1e-13)
    check_states(last, hs, cs)


@pytest.mark.parametrize("options", [{"proj_size": 2}, {"proj_size": 3, "bidirectional": True, "num_layers": 2}], ids=str)
def test_projected_lstm(options, rng):
    layer = build("LSTM", rng, **options)
    lengths = [5, 2, 4]
    sequences, (h, c, hx) = [rng.normal(size=(n, 4)) for n in lengths], start(layer, rng, 3)
    packed = rnn.pack_sequence([engine.tensor(s) for s in sequences], enforce_sorted=False)
    out, last = layer(packed, hx)
    parts = [one_sequence("LSTM", layer, s, h[:, b], c[:, b]) for b, s in enumerate(sequences)]
    for seen, (expected, _, _) in zip(rnn.unpack_sequence(out), parts, strict=True):
        np.testing.assert_allclose(seen.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    check_states(last, np.stack([p[1] for p in parts], 1), np.stack([p[2] for p in parts], 1))


@pytest.mark.parametrize("mode", LAYERS)
def test_packed_sequences_run_each_to_its_own_end(mode, rng):
    layer = build(mode, rng, bidirectional=True)
    sequences, (h, c, hx) = [rng.normal(size=(n, 4)) for n in (2, 5, 3, 5)], start(layer, rng, 4)
    xs = [engine.tensor(s, requires_grad=True) for s in sequences]
    out, last = layer(rnn.pack_sequence(xs, enforce_sorted=False), hx)
    parts = [one_sequence(mode, layer, s, h[:, b], c[:, b]) for b, s in enumerate(sequences)]
    seen = rnn.unpack_sequence(out)
    for s, (expected, _, _) in zip(seen, parts, strict=True):
        np.testing.assert_allclose(s.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    check_states(last, np.stack([p[1] for p in parts], 1), np.stack([p[2] for p in parts], 1))
    # each sequence's gradient is that of the sequence run on its own
    sum((s * s).sum() for s in seen).backward()
    for b, x in enumerate(xs):
        own = engine.tensor(sequences[b], requires_grad=True)
        mine = (hx[0][:, b], hx[1][:, b]) if mode == "LSTM" else hx[:, b]
        (layer(own, mine)[0] ** 2).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), own.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", CELLS)
def test_cells(mode, rng):
    cell = CELLS[mode](4, 5, dtype=D)
    w = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    x, h, c = rng.normal(size=(3, 4)), rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    hx = (engine.tensor(h), engine.tensor(c)) if mode == "LSTM" else engine.tensor(h)
    expected = step(mode, x, h, c, w)
    check_states(cell(engine.tensor(x), hx), *expected)
    one = cell(engine.tensor(x[0]))
    check_states(one, *(e[0] for e in step(mode, x[:1], h[:1] * 0, c[:1] * 0, w)))
    assert (one[0] if mode == "LSTM" else one).shape == (5,)


def test_relu_cell_without_bias(rng):
    cell = nn.RNNCell(4, 5, bias=False, nonlinearity="relu", dtype=D)
    x, h = rng.normal(size=(3, 4)), rng.normal(size=(3, 5))
    w = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    check_states(cell(engine.tensor(x), engine.tensor(h)), step("RNN_RELU", x, h, None, w)[0], None)
    assert list(w) == ["weight_ih", "weight_hh"] and cell.bias_ih is None


# --- gradients --------------------------------------------------------------------------------------------------------

def operands(mode, rng, sizes):
    gates, hidden = nn.recurrent.GATES[mode], 2
    shapes = [(sum(sizes), 3), *[(sizes[0], hidden)] * (2 if mode == "LSTM" else 1), (gates * hidden, 3), (gates * hidden, hidden),
              (gates * hidden,), (gates * hidden,)]
    return [engine.tensor(rng.normal(size=s), requires_grad=True) for s in shapes]


def as_function(mode, sizes, reverse):
    states = 2 if mode == "LSTM" else 1
    return lambda x, *rest: run_layer(mode, x, list(rest[:states]), [*rest[states:], None], sizes, reverse)


@pytest.mark.parametrize("sizes, reverse", [((3, 2, 1), False), ((2, 2), True)])
@pytest.mark.parametrize("mode", LAYERS)
def test_gradients_by_finite_differences(mode, sizes, reverse, rng):
    assert engine.autograd.gradcheck(as_function(mode, sizes, reverse), operands(mode, rng, sizes))


@pytest.mark.parametrize("mode", LAYERS)
def test_second_derivatives_by_finite_differences(mode, rng):
    """The gradient written in operators, at a point and along directions, is that of the kernels; it is then differentiated."""
    f, xs = as_function(mode, (2, 1), mode == "GRU"), operands(mode, rng, (2, 1))
    weights = [engine.tensor(rng.normal(size=tuple(o.shape))) for o in f(*xs)]
    along = [engine.tensor(rng.normal(size=tuple(x.shape))) for x in xs]

    def gradients(points, create_graph):
        return engine.autograd.grad(sum((w * o).sum() for w, o in zip(weights, f(*points), strict=True)), points,
                                    create_graph=create_graph)

    first = gradients(xs, True)
    for a, b in zip(first, gradients(xs, False), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
    second = engine.autograd.grad(sum((d * g).sum() for d, g in zip(along, first, strict=True)), xs)
    eps = 1e-6
    ends = [gradients([(x + e * d).detach().requires_grad_() for x, d in zip(xs, along, strict=True)], False) for e in (eps, -eps)]
    for seen, up, down in zip(second, *ends, strict=True):
        np.testing.assert_allclose(seen.numpy(), (up.numpy() - down.numpy()) / (2 * eps), rtol=1e-5, atol=1e-7)


def test_gradients_of_only_some_results_and_operands(rng):
    xs = operands("LSTM", rng, (2, 2))
    whole = [x.detach().clone().requires_grad_() for x in xs]
    xs[4].requires_grad_(False)                             # the weight of the state
    f = as_function("LSTM", (2, 2), False)
    f(*xs)[2].sum().backward()                              # the last cell alone
    out, h, c = f(*whole)
    (out.sum() * 0 + h.sum() * 0 + c.sum()).backward()
    assert xs[4].grad is None
    for a, b in zip(xs[:4], whole[:4], strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_float32_and_float16(rng):
    wide = build("LSTM", rng)
    x = rng.normal(size=(5, 2, 4))
    expected = wide(engine.tensor(x))[0].detach().numpy()
    for dtype, tolerance in ((engine.float32, 1e-5), (engine.float16, 1e-2)):
        layer = nn.LSTM(4, 5, dtype=dtype)
        layer.load_state_dict(wide.state_dict())
        given = engine.tensor(x, dtype=dtype, requires_grad=True)
        out, _ = layer(given)
        assert out.dtype is dtype
        np.testing.assert_allclose(out.detach().numpy(), expected, atol=tolerance)
        out.sum().backward()
        exact = engine.tensor(x, requires_grad=True)
        wide(exact)[0].sum().backward()
        np.testing.assert_allclose(given.grad.numpy(), exact.grad.numpy(), atol=5 * tolerance)


def test_layouts_and_a_batch_of_none(rng):
    layer = build("GRU", rng)
    x = engine.tensor(rng.normal(size=(4, 3, 6)))
    turned = x.permute(2, 1, 0)                             # (6, 3, 4), not contiguous
    np.testing.assert_array_equal(layer(turned)[0].detach().numpy(), layer(turned.contiguous())[0].detach().numpy())
    out, h = layer(x.new_zeros(2, 0, 4))
    assert out.shape == (2, 0, 5) and h.shape == (1, 0, 5)
    out.sum().backward()
    assert not layer.weight_hh_l0.grad.any()


def test_dropout_lies_between_layers_in_training(rng):
    layer = build("RNN_TANH", rng, num_layers=2, dropout=1.0)
    x = engine.tensor(rng.normal(size=(3, 2, 4)))
    second = {n.replace("_l1", "_l0"): p for n, p in layer.named_parameters() if "_l1" in n}
    alone = nn.RNN(5, 5, dtype=D)
    alone.load_state_dict(second)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), alone(x.new_zeros(3, 2, 5))[0].detach().numpy(), rtol=1e-14)
    layer.eval()
    assert not np.allclose(layer(x)[0].detach().numpy(), alone(x.new_zeros(3, 2, 5))[0].detach().numpy())
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1, but got dropout=0.5"):
        nn.LSTM(2, 3, dropout=0.5)


# --- as modules -------------------------------------------------------------------------------------------------------

def test_names_shapes_start_and_repr():
    layer = nn.LSTM(4, 6, 2, bidirectional=True, proj_size=3)
    assert [n for n in layer.state_dict() if n.endswith("_l1_reverse")] == [
        "weight_ih_l1_reverse", "weight_hh_l1_reverse", "bias_ih_l1_reverse", "bias_hh_l1_reverse", "weight_hr_l1_reverse"]
    assert [[tuple(w.shape) for w in ws] for ws in layer.all_weights][1:3] == [
        [(24, 4), (24, 3), (24,), (24,), (3, 6)], [(24, 6), (24, 3), (24,), (24,), (3, 6)]]
    assert next(iter(layer.state_dict())) == "weight_ih_l0" and layer.flatten_parameters() is None
    assert repr(layer) == "LSTM(4, 6, proj_size=3, num_layers=2, bidirectional=True)"
    assert repr(nn.GRU(4, 6, bias=False, batch_first=True)) == "GRU(4, 6, bias=False, batch_first=True)"
    assert repr(nn.RNN(4, 6, 1, "relu")) == "RNN(4, 6)" and nn.RNN(4, 6, 1, "relu").mode == "RNN_RELU"
    assert repr(nn.RNNCell(4, 6, False, "relu")) == "RNNCell(4, 6, bias=False, nonlinearity=relu)"
    weights = nn.GRU(40, 64).weight_hh_l0.detach().numpy()
    assert np.abs(weights).max() <= 1 / 8 and abs(weights.std() - 1 / 8 / np.sqrt(3)) < 0.003      # uniform in +-1/sqrt(64)
    copied = pickle.loads(pickle.dumps(layer))
    x = engine.ones(2, 3, 4)
    np.testing.assert_array_equal(copied(x)[0].detach().numpy(), layer(x)[0].detach().numpy())


def zeros(*shape, dtype=None):
    return engine.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize("call, error, words", [
    (lambda: nn.LSTM(4, 6)(zeros(2, 3, 5)), RuntimeError, r"input.size\(-1\) must be equal to input_size. Expected 4, got 5"),
    (lambda: nn.LSTM(4, 6)(zeros(0, 3, 4)), RuntimeError, "Expected sequence length to be larger than 0 in RNN"),
    (lambda: nn.GRU(4, 6)(zeros(2, 3, 4), zeros(1, 2, 6)), RuntimeError, r"Expected hidden size \(1, 3, 6\), got \[1, 2, 6\]"),
    (lambda: nn.LSTM(4, 6)(zeros(2, 3, 4), (zeros(1, 3, 6), zeros(1, 3, 5))), RuntimeError,
     r"Expected hidden\[1\] size \(1, 3, 6\), got \[1, 3, 5\]"),
    (lambda: nn.GRU(4, 6)(zeros(2, 4), zeros(1, 2, 6)), RuntimeError, "For unbatched 2-D input, hx should also be 2-D but got 3-D"),
    (lambda: nn.LSTM(4, 6)(zeros(2, 3, 4), (zeros(1, 6), zeros(1, 6))), RuntimeError,
     r"For batched 3-D input, hx and cx should also be 3-D but got \(2-D, 2-D\) tensors"),
    (lambda: nn.RNN(4, 6)(zeros(4)), ValueError, "RNN: Expected input to be 2D or 3D, got 1D tensor instead"),
    (lambda: nn.LSTM(4, 6)(zeros(2, 3, 4, dtype=D)), ValueError, "RNN input dtype .* does not match weight dtype"),
    (lambda: nn.GRU(4, 6)(zeros(2, 3, 4), zeros(1, 3, 6, dtype=D)), RuntimeError, "same dtype, but got Double and Float"),
    (lambda: nn.LSTM(4, 6, dtype=engine.complex64)(zeros(2, 3, 4, dtype=engine.complex64)), NotImplementedError, "ComplexFloat"),
    (lambda: nn.GRU(4, 6)(rnn.PackedSequence(zeros(5, 2, 4), engine.tensor([3, 2]))), RuntimeError,
     "must have 2 dimensions, got 3"),
    (lambda: nn.LSTM(4, 6, dropout=2.0), ValueError, r"dropout should be a number in range \[0, 1\]"),
    (lambda: nn.LSTM(4, 6, proj_size=6), ValueError, "proj_size has to be smaller than hidden_size"),
    (lambda: nn.LSTM(4, 6, proj_size=-1), ValueError, "proj_size should be a positive integer or zero"),
    (lambda: nn.GRU(4, 6, proj_size=2), ValueError, "proj_size argument is only supported for LSTM"),
    (lambda: nn.RNN(4, 6, nonlinearity="elu"), ValueError, "Unknown nonlinearity 'elu'"),
    (lambda: nn.LSTM(4, 0), ValueError, "hidden_size must be greater than zero"),
    (lambda: nn.LSTM(4, 6, 0), ValueError, "num_layers must be greater than zero"),
    (lambda: nn.LSTM(4.0, 6), TypeError, "input_size should be of type int, got: float"),
    (lambda: nn.LSTM(4, 6, bias=1), TypeError, "bias should be of type bool, got: int"),
    (lambda: nn.RNNBase("LSTN", 4, 6), ValueError, "Unrecognized RNN mode: LSTN"),
    (lambda: nn.LSTMCell(4, 6)(zeros(3, 5)), RuntimeError, "input has inconsistent input_size: got 5 expected 4"),
    (lambda: nn.LSTMCell(4, 6)(zeros(3, 4), (zeros(3, 6), zeros(3, 7))), RuntimeError,
     "hidden1 has inconsistent hidden_size: got 7, expected 6"),
    (lambda: nn.GRUCell(4, 6)(zeros(3, 4), zeros(2, 6)), RuntimeError, "Input batch size 3 doesn't match hidden0 batch size 2"),
    (lambda: nn.RNNCell(4, 6)(zeros(2, 3, 4)), ValueError, "RNNCell: Expected input to be 1D or 2D, got 3D instead"),
    (lambda: nn.LSTMCell(4, 6)(zeros(4), (zeros(6), zeros(1, 1, 6))), ValueError, r"Expected hx\[1\] to be 1D or 2D, got 3D"),
    (lambda: nn.RNNCell(4, 6, nonlinearity="elu")(zeros(3, 4)), RuntimeError, "Unknown nonlinearity: elu"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- sequences --------------------------------------------------------------------------------------------------------

def test_pack_pad_and_back():
    a, b, c = (engine.tensor(v) for v in ([1, 2], [3, 4, 5], [6]))
    packed = rnn.pack_sequence([a, b, c], enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5] and packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2] and packed.unsorted_indices.tolist() == [1, 0, 2]
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1, total_length=4)
    assert padded.tolist() == [[1, 2, -1, -1], [3, 4, 5, -1], [6, -1, -1, -1]] and lengths.tolist() == [2, 3, 1]
    assert rnn.pad_packed_sequence(packed)[0].tolist() == [[1, 3, 6], [2, 4, 0], [0, 5, 0]]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == [[1, 2], [3, 4, 5], [6]]
    again = rnn.pack_padded_sequence(padded, [2, 3, 1], batch_first=True, enforce_sorted=False)
    assert again.data.tolist() == packed.data.tolist()
    assert [s.tolist() for s in rnn.unpad_sequence(padded.t(), lengths)] == [[1, 2], [3, 4, 5], [6]]
    assert rnn.pad_sequence([a, b], True, 9, "left").tolist() == [[9, 1, 2], [3, 4, 5]]
    assert rnn.pad_sequence([a, b]).tolist() == [[1, 3], [2, 4], [0, 5]]
    assert rnn.invert_permutation(engine.tensor([2, 0, 1])).tolist() == [1, 2, 0] and rnn.invert_permutation(None) is None
    wide = packed.double()
    assert wide.data.dtype is D and wide.to(dtype=D) is wide and wide.batch_sizes is packed.batch_sizes and not wide.is_cuda
    assert packed.float().half().data.dtype is engine.float16 and wide.long().data.dtype is engine.int64
    data, sizes, order, _ = packed
    assert data is packed.data and rnn.PackedSequence((data, sizes), None, order).unsorted_indices.tolist() == [1, 0, 2]


def test_packing_is_differentiable(rng):
    x = engine.tensor(rng.normal(size=(4, 3, 2)), requires_grad=True)
    packed = rnn.pack_padded_sequence(x, engine.tensor([4, 2, 2]))
    padded, _ = rnn.pad_packed_sequence(packed)
    (padded * padded).sum().backward()
    seen = np.arange(4)[:, None] < np.array([4, 2, 2])
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy() * seen[..., None])


@pytest.mark.parametrize("call, error, words", [
    (lambda: rnn.pack_padded_sequence(zeros(5, 3, 2), [5, 3]), RuntimeError, r"`len\(lengths\)` .* but got 2 \(batch_size=3\)"),
    (lambda: rnn.pack_padded_sequence(zeros(5, 3, 2), [4, 3, 0]), RuntimeError, "Length of all samples has to be greater than 0"),
    (lambda: rnn.pack_padded_sequence(zeros(5, 3, 2), [3, 4, 1]), RuntimeError, "must be sorted in decreasing order"),
    (lambda: rnn.pack_padded_sequence(zeros(5, 3, 2), [6, 4, 1]), RuntimeError, "lengths of at most 5"),
    (lambda: rnn.pack_padded_sequence(zeros(0, 3, 2), [3, 2, 1]), RuntimeError, "Cannot pack empty tensors."),
    (lambda: rnn.pack_padded_sequence(zeros(5, 3), engine.tensor([[5, 3, 2]])), RuntimeError, "should be a 1D CPU int64 tensor"),
    (lambda: rnn.pad_sequence([]), RuntimeError, "received an empty list of sequences"),
    (lambda: rnn.pad_sequence(3), RuntimeError, "Expected iterable for input sequences"),
    (lambda: rnn.pad_sequence([zeros(3, 2), zeros(2, 4)]), RuntimeError,
     r"a \(2\) must match .* b \(4\) at non-singleton dimension 1"),
    (lambda: rnn.pad_sequence([zeros(3)], padding_side="up"), RuntimeError, "padding_side to be one of left or right, but got up"),
    (lambda: rnn.pad_packed_sequence(rnn.pack_sequence([zeros(3), zeros(2)]), total_length=2), ValueError,
     "total_length=2 and max sequence length being 3"),
    (lambda: rnn.PackedSequence(zeros(3)), AssertionError, "list or tuple of length 2"),
])
def test_errors_of_sequences(call, error, words):
    with pytest.raises(error, match=words):
        call()
