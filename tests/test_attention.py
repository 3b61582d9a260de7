"""Attention and transformers: against softmax(q k^T / sqrt(e) + mask) v in NumPy, gradients by finite differences."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.nn import functional as F

D = engine.float64


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, mask=0.0, scale=None):
    """What each query sees, and how much; `mask` is added."""
    weights = softmax(q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + mask)
    return weights @ v, weights


def tensors(*arrays, grad=False):
    return [engine.tensor(a, requires_grad=grad) for a in arrays]


def close(seen, expected):
    np.testing.assert_allclose(seen.detach().numpy(), expected, rtol=1e-11, atol=1e-13)


# --- scaled_dot_product_attention ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("lead", [(), (3,), (2, 4)])
def test_one_attention(lead, rng):
    q, k, v = (rng.normal(size=(*lead, *s)) for s in ((5, 4), (6, 4), (6, 3)))
    close(F.scaled_dot_product_attention(*tensors(q, k, v)), attention(q, k, v)[0])
    close(F.scaled_dot_product_attention(*tensors(q, k, v), scale=0.3), attention(q, k, v, scale=0.3)[0])
    later = np.triu(np.full((5, 6), -np.inf), 1)
    close(F.scaled_dot_product_attention(*tensors(q, k, v), is_causal=True), attention(q, k, v, later)[0])
    added, seen = rng.normal(size=(5, 6)), rng.random((*lead, 5, 6)) < 0.5
    seen[..., 0] = True
    close(F.scaled_dot_product_attention(*tensors(q, k, v), engine.tensor(added)), attention(q, k, v, added)[0])
    hidden = np.where(seen, 0, -np.inf)
    close(F.scaled_dot_product_attention(*tensors(q, k, v), engine.tensor(seen)), attention(q, k, v, hidden)[0])


def test_a_query_that_sees_nothing_gives_zero(rng):
    q, k, v = (rng.normal(size=(3, 4)) for _ in range(3))
    seen = np.ones((3, 3), bool)
    seen[1] = False
    xs = tensors(q, k, v, grad=True)
    out = F.scaled_dot_product_attention(*xs, engine.tensor(seen))
    expected, _ = attention(q, k, v)
    expected[1] = 0
    close(out, expected)
    out.sum().backward()
    assert all(np.isfinite(x.grad.numpy()).all() for x in xs) and not xs[0].grad[1].any()


def test_shared_heads(rng):
    q, k, v = rng.normal(size=(2, 6, 5, 4)), rng.normal(size=(2, 2, 7, 4)), rng.normal(size=(2, 2, 7, 3))
    expected, _ = attention(q, np.repeat(k, 3, 1), np.repeat(v, 3, 1))
    close(F.scaled_dot_product_attention(*tensors(q, k, v), enable_gqa=True), expected)
    with pytest.raises(RuntimeError, match="Number of heads in key and value must divide the number of heads in query"):
        F.scaled_dot_product_attention(engine.zeros(1, 3, 2, 4), *[engine.zeros(1, 2, 2, 4)] * 2, enable_gqa=True)


def test_gradients_to_second_order(rng):
    q, k, v, mask = tensors(*(rng.normal(size=s) for s in ((2, 3), (3, 3), (3, 2), (2, 3))), grad=True)
    f = F.scaled_dot_product_attention
    assert engine.autograd.gradcheck(f, (q, k, v, mask)) and engine.autograd.gradgradcheck(f, (q, k, v, mask))
    assert engine.autograd.gradcheck(lambda *xs: f(*xs, is_causal=True), (q, k, v))


def test_dropout_of_weights(rng):
    q, k, v = rng.normal(size=(40, 4)), rng.normal(size=(50, 4)), np.eye(50)           # the result is the weights
    engine.manual_seed(1)
    seen = F.scaled_dot_product_attention(*tensors(q, k, v), dropout_p=0.25).numpy()
    engine.manual_seed(1)
    close(F.dropout(engine.tensor(attention(q, k, v)[1]), 0.25), seen)
    assert abs((seen == 0).mean() - 0.25) < 0.05


def zeros(*shape, dtype=None):
    return engine.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize("call, words", [
    (lambda: F.scaled_dot_product_attention(zeros(2, 3, 4), zeros(2, 3, 4, dtype=D), zeros(2, 3, 4)),
     "same dtype, but got query.dtype: float key.dtype: double and value.dtype: float"),
    (lambda: F.scaled_dot_product_attention(zeros(3), zeros(2, 3), zeros(2, 3)), "at least 2 dimensional, but got query.dim: 1"),
    (lambda: F.scaled_dot_product_attention(*[zeros(2, 3)] * 3, zeros(2, 2, dtype=engine.int64)), "attn_mask.dtype: long int"),
    (lambda: F.scaled_dot_product_attention(*[zeros(2, 3)] * 3, zeros(2, 2), is_causal=True),
     "should not be set when is_causal=True"),
])
def test_errors_of_one_attention(call, words):
    with pytest.raises(RuntimeError, match=words):
        call()
    with pytest.raises(TypeError, match=r"argument 'key' \(position 2\) must be Tensor, not int"):
        F.scaled_dot_product_attention(zeros(2, 3), 1, zeros(2, 3))


# --- several heads ------------------------------------------------------------------------------------------------------

def several_heads(module, q, k, v, mask=0.0):
    """The formula for inputs (batch, length, features): what comes out, and weights (batch, heads, length, keys)."""
    p = {name: t.detach().numpy() for name, t in module.named_parameters()}
    e, heads = module.embed_dim, module.num_heads
    if "in_proj_weight" in p:
        ws = np.split(p["in_proj_weight"], 3)
    else:
        ws = [p[f"{name}_proj_weight"] for name in "qkv"]
    bs = np.split(p.get("in_proj_bias", np.zeros(3 * e)), 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), ws, bs, strict=True))
    if "bias_k" in p:
        k, v = (np.concatenate([x, np.broadcast_to(p[name], (len(x), 1, e))], 1) for x, name in ((k, "bias_k"), (v, "bias_v")))
    if module.add_zero_attn:
        k, v = (np.concatenate([x, np.zeros((len(x), 1, e))], 1) for x in (k, v))
    q, k, v = (x.reshape(len(x), x.shape[1], heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
    if np.ndim(mask):
        mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, k.shape[2] - mask.shape[-1])])
    out, weights = attention(q, k, v, mask)
    out = out.transpose(0, 2, 1, 3).reshape(len(out), -1, e)
    return out @ p["out_proj.weight"].T + p.get("out_proj.bias", 0), weights


def build(rng, **options):
    module = nn.MultiheadAttention(4, 2, dtype=D, **options)
    with engine.no_grad():
        for p in module.parameters():
            p.copy_(engine.tensor(rng.normal(size=tuple(p.shape)) * 0.5))
    return module


@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True, "add_zero_attn": True},
    {"add_zero_attn": True, "bias": False},
], ids=str)
def test_several_heads(options, rng):
    module = build(rng, batch_first=True, **options)
    q, k, v = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, module.kdim)), rng.normal(size=(2, 5, module.vdim))
    expected, weights = several_heads(module, q, k, v)
    out, seen = module(*tensors(q, k, v))
    close(out, expected)
    close(seen, weights.mean(1))
    close(module(*tensors(q, k, v), average_attn_weights=False)[1], weights)
    out, none = module(*tensors(q, k, v), need_weights=False)
    close(out, expected)
    assert none is None
    module.batch_first = False
    close(module(*tensors(*(x.swapaxes(0, 1) for x in (q, k, v))))[0], expected.swapaxes(0, 1))
    out, seen = module(*tensors(q[1], k[1], v[1]))              # without a batch
    close(out, expected[1])
    close(seen, weights[1].mean(0))
    # masks: which keys no query of a sample sees, and what each query of each head sees
    hidden, added = np.zeros((2, 5), bool), rng.normal(size=(4, 3, 5))
    hidden[0, 3:] = hidden[1, 1] = True
    mask = np.where(hidden, -np.inf, 0)[:, None, None] + added.reshape(2, 2, 3, 5)
    expected, weights = several_heads(module, q, k, v, mask)
    module.batch_first = True
    for need in (True, False):
        with pytest.warns(UserWarning, match="Support for mismatched key_padding_mask and attn_mask is deprecated"):
            out, seen = module(*tensors(q, k, v), key_padding_mask=engine.tensor(hidden), attn_mask=engine.tensor(added),
                               need_weights=need)
        close(out, expected)
        if need:
            close(seen, weights.mean(1))
    later = np.triu(np.ones((3, 5), bool), 1)
    expected, _ = several_heads(module, q, k, v, np.where(later, -np.inf, 0))
    for causal in (False, True):
        if not (causal and (options.get("add_zero_attn") or options.get("add_bias_kv"))):
            out, _ = module(*tensors(q, k, v), attn_mask=engine.tensor(later), is_causal=causal, need_weights=False)
            close(out, expected)


def test_self_attention_projects_once_and_shared_keys_twice(rng):
    module = build(rng, batch_first=True)
    q, k = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))
    x, y = tensors(q, k)
    close(module(x, x, x)[0], several_heads(module, q, q, q)[0])
    close(module(x, y, y)[0], several_heads(module, q, k, k)[0])


def test_static_keys(rng):
    module = build(rng)
    q, k, v = rng.normal(size=(3, 2, 4)), rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 5, 2))
    x = engine.tensor(q)
    out, _ = F.multi_head_attention_forward(x, x, x, 4, 2, module.in_proj_weight, module.in_proj_bias, None, None, False, 0.0,
                                            module.out_proj.weight, module.out_proj.bias, static_k=engine.tensor(k),
                                            static_v=engine.tensor(v))
    own = q @ module.in_proj_weight.detach().numpy()[:4].T + module.in_proj_bias.detach().numpy()[:4]
    heads = own.reshape(3, 4, 2).transpose(1, 0, 2)
    joined = attention(heads, k, v)[0].transpose(1, 0, 2).reshape(3, 2, 4)
    close(out, joined @ module.out_proj.weight.detach().numpy().T + module.out_proj.bias.detach().numpy())


def test_gradients_of_several_heads(rng):
    module = build(rng, add_bias_kv=True)
    q, k = tensors(rng.normal(size=(2, 1, 4)), rng.normal(size=(3, 1, 4)), grad=True)
    assert engine.autograd.gradcheck(lambda q, k: module(q, k, k), (q, k))
    weight = module.in_proj_weight
    (module(q, k, k)[0] ** 2).sum().backward()
    direction, eps, values = rng.normal(size=(12, 4)), 1e-6, []
    for e in (eps, -eps):
        with engine.no_grad():
            weight.add_(engine.tensor(e * direction))
            values.append((module(q, k, k)[0] ** 2).sum().item())
            weight.sub_(engine.tensor(e * direction))
    assert (weight.grad.numpy() * direction).sum() == pytest.approx((values[0] - values[1]) / (2 * eps), rel=1e-6)


def test_dropout_in_training_only(rng):
    module = build(rng, dropout=0.5, batch_first=True)
    x = engine.tensor(rng.normal(size=(2, 30, 4)))
    dropped = module(x, x, x, average_attn_weights=False)[1]
    assert 0.4 < (dropped == 0).double().mean().item() < 0.6
    module.eval()
    close(module(x, x, x)[0], several_heads(module, *[x.numpy()] * 3)[0])


def test_parameters_of_several_heads():
    module = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        "in_proj_weight": (192, 64), "in_proj_bias": (192,), "bias_k": (1, 1, 64), "bias_v": (1, 1, 64),
        "out_proj.weight": (64, 64), "out_proj.bias": (64,)}
    weight = module.in_proj_weight.detach().numpy()
    assert abs(np.abs(weight).max() - np.sqrt(6 / 256)) < 1e-3 and not module.in_proj_bias.any() and not module.out_proj.bias.any()
    separate = nn.MultiheadAttention(4, 2, kdim=3, vdim=2, bias=False)
    assert {n: tuple(p.shape) for n, p in separate.named_parameters()} == {
        "q_proj_weight": (4, 4), "k_proj_weight": (4, 3), "v_proj_weight": (4, 2), "out_proj.weight": (4, 4)}
    assert repr(separate) == ("MultiheadAttention(\n  (out_proj): NonDynamicallyQuantizableLinear(in_features=4, out_features=4, "
                              "bias=False)\n)")


def heads(*shapes, about=None, **options):
    return lambda: nn.MultiheadAttention(4, 2, **(about or {}))(*[zeros(*s) for s in shapes], **options)


SAME = [(2, 3, 4)] * 3


@pytest.mark.parametrize("call, error, words", [
    (lambda: nn.MultiheadAttention(0, 2), ValueError, "embed_dim and num_heads must be greater than 0"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "embed_dim must be divisible by num_heads"),
    (heads(*[(2, 3, 5)] * 3), AssertionError, "was expecting embedding dimension of 4, but got 5"),
    (heads((2, 4), *SAME[:2]), AssertionError, "For unbatched .* expected `key` and `value` to be 2-D but found 3-D and 3-D"),
    (heads(*[(4,)] * 3), AssertionError, "query should be unbatched 2D or batched 3D tensor but received 1-D"),
    (heads(*SAME, attn_mask=zeros(3, 3)), RuntimeError, r"The shape of the 2D attn_mask is .*\[3, 3\]\), but should be \(2, 2\)"),
    (heads(*SAME, attn_mask=zeros(3, 2, 2)), RuntimeError, r"The shape of the 3D attn_mask .* should be \(6, 2, 2\)"),
    (heads(*SAME, attn_mask=zeros(3)), AssertionError, "expected `attn_mask` to be `None`, 2-D or 3-D but found 1-D"),
    (heads(*SAME, key_padding_mask=zeros(2, 3)), AssertionError, r"Expected key_padded_mask.shape\[0\] to be 3, but got 2"),
    (heads(*SAME, key_padding_mask=zeros(3)), AssertionError, "expected `key_padding_mask` to be `None` or 2-D but found 1-D"),
    (heads(*SAME, key_padding_mask=zeros(3, 2, dtype=engine.int64)), AssertionError, "only bool and floating types"),
    (heads(*SAME, is_causal=True), RuntimeError, "Need attn_mask if specifying the is_causal hint"),
    (heads(*SAME[:2], (3, 3, 4)), AssertionError, "key shape .* does not match value shape"),
    (heads(*[(2, 3, n) for n in (4, 2, 2)], about={"kdim": 3, "vdim": 2}), AssertionError,
     r"expecting key weights shape of \(4, 2\)"),
    (heads((2, 3, 4), (2, 3, 3), (1, 3, 2), about={"kdim": 3, "vdim": 2}), AssertionError,
     "sequence and batch dims .* do not match"),
    (heads(*[(2, 4)] * 3, attn_mask=zeros(3, 2, 2)), AssertionError, r"Expected `attn_mask` shape to be \(2, 2, 2\)"),
])
def test_errors_of_several_heads(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- transformers -------------------------------------------------------------------------------------------------------

def norm(module, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return x * module.weight.detach().numpy() + (0 if module.bias is None else module.bias.detach().numpy())


def dense(module, x):
    return x @ module.weight.detach().numpy().T + (0 if module.bias is None else module.bias.detach().numpy())


def encoder_layer(layer, x, mask=0.0, activation=lambda x: np.maximum(x, 0)):
    """The formula for inputs (batch, length, d_model)."""
    ff = lambda x: dense(layer.linear2, activation(dense(layer.linear1, x)))
    if layer.norm_first:
        y = norm(layer.norm1, x)
        x = x + several_heads(layer.self_attn, y, y, y, mask)[0]
        return x + ff(norm(layer.norm2, x))
    x = norm(layer.norm1, x + several_heads(layer.self_attn, x, x, x, mask)[0])
    return norm(layer.norm2, x + ff(x))


def decoder_layer(layer, x, memory, mask=0.0, memory_mask=0.0):
    ff = lambda x: dense(layer.linear2, np.maximum(dense(layer.linear1, x), 0))
    if layer.norm_first:
        y = norm(layer.norm1, x)
        x = x + several_heads(layer.self_attn, y, y, y, mask)[0]
        x = x + several_heads(layer.multihead_attn, norm(layer.norm2, x), memory, memory, memory_mask)[0]
        return x + ff(norm(layer.norm3, x))
    x = norm(layer.norm1, x + several_heads(layer.self_attn, x, x, x, mask)[0])
    x = norm(layer.norm2, x + several_heads(layer.multihead_attn, x, memory, memory, memory_mask)[0])
    return norm(layer.norm3, x + ff(x))


def randomized(module, rng):
    with engine.no_grad():
        for p in module.parameters():
            p.copy_(engine.tensor(rng.normal(size=tuple(p.shape)) * 0.5))
    return module


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first, bias", [(False, True), (True, False)])
def test_transformer(norm_first, bias, rng):
    model = randomized(nn.Transformer(4, 2, 2, 2, 8, 0.0, batch_first=True, norm_first=norm_first, bias=bias, dtype=D), rng)
    s, t = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 3, 4))
    hidden = np.zeros((2, 4), bool)
    hidden[1, 3] = True
    added, causal = rng.normal(size=(4, 4)), np.triu(np.full((3, 3), -np.inf), 1)
    padding = np.where(hidden, -np.inf, 0)[:, None, None]
    memory = s
    for layer in model.encoder.layers:
        memory = encoder_layer(layer, memory, added + padding)
    memory, expected = norm(model.encoder.norm, memory), t
    for layer in model.decoder.layers:
        expected = decoder_layer(layer, expected, memory, causal, padding)
    expected = norm(model.decoder.norm, expected)
    src, tgt = tensors(s, t, grad=True)
    mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=D)
    close(mask, causal)
    away = engine.tensor(padding[:, 0, 0])
    out = model(src, tgt, src_mask=engine.tensor(added), tgt_mask=mask, src_key_padding_mask=away, memory_key_padding_mask=away)
    close(out, expected)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters()) and np.isfinite(src.grad.numpy()).all()
    for layers in (model.encoder.layers, model.decoder.layers):
        assert layers[0].linear1.weight is not layers[1].linear1.weight


@pytest.mark.parametrize("activation, formula", [
    ("gelu", None), (F.gelu, None), (nn.ReLU(), lambda x: np.maximum(x, 0)), (engine.tanh, np.tanh)])
def test_activations_of_a_layer(activation, formula, rng):
    if formula is None:
        from scipy.special import ndtr
        formula = lambda x: x * ndtr(x)
    layer = randomized(nn.TransformerEncoderLayer(4, 2, 8, 0.0, activation, dtype=D), rng)
    x = rng.normal(size=(3, 2, 4))
    expected = encoder_layer(layer, x.swapaxes(0, 1), activation=formula)
    close(layer(engine.tensor(x)), expected.swapaxes(0, 1))
    close(layer(engine.tensor(x[:, 1])), expected[1])


def test_causal_masks_are_recognized(rng):
    layer = randomized(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True, dtype=D), rng)
    encoder = nn.TransformerEncoder(layer, 1)
    x = rng.normal(size=(2, 3, 4))
    mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=D)
    expected = encoder_layer(layer, x, mask.numpy())
    close(encoder(engine.tensor(x), mask), expected)
    close(encoder(engine.tensor(x), mask, is_causal=True), expected)
    close(encoder(engine.tensor(x), mask, is_causal=False), expected)
    close(encoder(engine.tensor(x), mask == -np.inf), expected)
    told = []
    for m in (mask, mask * 0, zeros(6, 3, 3, dtype=D)):
        encoder.layers[0].forward = lambda src, is_causal, **options: told.append(is_causal) or src
        encoder(engine.tensor(np.concatenate([x, x[:1]])), m)
    assert told == [True, False, False]
    decoder = nn.TransformerDecoder(randomized(nn.TransformerDecoderLayer(4, 2, 8, 0.0, batch_first=True, dtype=D), rng), 1)
    close(decoder(*tensors(x, x), tgt_mask=mask), decoder_layer(decoder.layers[0], x, x, mask.numpy()))


def test_dropout_of_a_layer(rng):
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=1.0, norm_first=True, dtype=D)
    x = engine.tensor(rng.normal(size=(3, 2, 4)))
    close(layer(x), x.numpy())                  # both branches are dropped
    layer.eval()
    assert not np.allclose(layer(x).detach().numpy(), x.numpy())


def test_transformer_as_module():
    with pytest.warns(UserWarning, match="use_nested_tensor is False because encoder_layer.self_attn.batch_first was not True"):
        model = nn.Transformer(4, 2, 1, 1, 8)
    names = list(model.state_dict())
    assert len(names) == 12 + 18 + 4
    assert names[0] == "encoder.layers.0.self_attn.in_proj_weight" and names[-1] == "decoder.norm.bias"
    assert "decoder.layers.0.multihead_attn.out_proj.bias" in names
    assert "(linear1): Linear(in_features=4, out_features=8, bias=True)" in repr(model)
    for words, options in (("norm_first was True", {"norm_first": True}), ("passed bias=False", {"bias": False}),
                           ("activation_relu_or_gelu was not True", {"activation": engine.tanh}), ("num_heads is odd", {})):
        layer = nn.TransformerEncoderLayer(4, 1 if words.endswith("odd") else 2, 8, batch_first=True, **options)
        with pytest.warns(UserWarning, match=words):
            assert not nn.TransformerEncoder(layer, 1).use_nested_tensor
        assert not nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).use_nested_tensor
    custom = nn.Transformer(4, 2, custom_encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1),
                            num_decoder_layers=1, batch_first=True)
    assert len(custom.encoder.layers) == 1 and custom.encoder.norm is None
    with pytest.raises(RuntimeError, match="the batch number of src and tgt must be equal"):
        custom(zeros(2, 3, 4), zeros(3, 3, 4))
    with pytest.raises(RuntimeError, match="the feature number of src and tgt must be equal to d_model"):
        custom(zeros(2, 3, 5), zeros(2, 3, 4))
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not elu"):
        nn.TransformerDecoderLayer(4, 2, activation="elu")
