"""Recurrent layers: RNN, LSTM, GRU, of several layers, in both directions, on tensors and on packed sequences.

All steps' inputs are multiplied at once; what then goes step by step is an operator of the book (`kernels.ops.recurrent`).
Rows of all steps lie one after another, packed or not. Cells, which take one step, are in `rnn_cells.py`; packed sequences in
`utils/rnn.py`.
"""
from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from kernels.book import BOOK
from kernels.ops.recurrent import steps_of

from ..errors import DTypeError, ShapeError
from ..functions.factories import empty, zeros
from ..functions.join import cat, stack
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


# --- one layer in one direction ---------------------------------------------------------------------------------------

def run_layer(mode: str, rows: Tensor, states: list[Tensor], weights: list[Tensor | None], sizes: tuple[int, ...],
              reverse: bool = False) -> tuple[Tensor, ...]:
    """Rows of all steps (rows, input) -> rows of all outputs, and the last state (and cell).

    states: (batch, hidden) each; weights: w_ih, w_hh, b_ih, b_hh, w_hr, the last three may be None; `sizes`: rows of each step.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    kind = rows._kind
    for other in (*states, w_hh):
        if other._kind is not kind:
            raise DTypeError(f"mat1 and mat2 must have the same dtype, but got {other._kind.dtype.scalar} and {kind.dtype.scalar}")
    if kind.dtype.category != 2:
        raise NotImplementedError(f'"{mode.lower()}" not implemented for \'{kind.dtype.scalar}\'')
    if mode == "GRU":
        bias = zeros(w_hh.shape[0], dtype=rows.dtype, device=rows.device) if b_hh is None else b_hh
        return BOOK["gru_layer"](F.linear(rows, w_ih, b_ih), *states, w_hh, bias, sizes=sizes, reverse=reverse)[:2]
    x = F.linear(rows, w_ih, None if b_ih is None else b_ih + b_hh)
    if w_hr is not None:
        return _projected(x, *states, w_hh, w_hr, sizes, reverse)
    if mode == "LSTM":
        return BOOK["lstm_layer"](x, *states, w_hh, sizes=sizes, reverse=reverse)[:3]
    return BOOK["rnn_layer"](x, *states, w_hh, sizes=sizes, reverse=reverse, activation=mode[4:].lower())


def _projected(x: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, w_hr: Tensor, sizes: tuple[int, ...],
               reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The LSTM whose state is w_hr times its output: step after step in operators. Sak et al. (2014), arXiv:1402.1128."""
    outs = []
    for first, last, n in steps_of(sizes, reverse):
        i, f, g, o = (x[first:last] + h[:n].matmul(w_hh.t())).chunk(4, 1)
        cell = f.sigmoid() * c[:n] + i.sigmoid() * g.tanh()
        outs.append((o.sigmoid() * cell.tanh()).matmul(w_hr.t()))
        h, c = (new if n == len(old) else cat([new, old[n:]]) for new, old in ((outs[-1], h), (cell, c)))
    return cat(outs[::-1] if reverse else outs), h, c


# --- layers -----------------------------------------------------------------------------------------------------------

class RNNBase(Module):
    """What RNN, LSTM and GRU share: weights by name, arguments, and the walk through layers and directions.

    weight_ih_l0 (gates * hidden, input), weight_hh_l0 (gates * hidden, hidden), bias_ih_l0, bias_hh_l0 (gates * hidden),
    weight_hr_l0 (proj, hidden), then `_reverse` and the next layers; all start uniform in +-1/sqrt(hidden_size). Inputs are
    (steps, batch, input), (batch, steps, input) where `batch_first`, (steps, input), or packed. dropout: of the outputs of all
    layers but the last.
    """

    mode: str
    _article = "instead"            # how the message about dimensions ends

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional, self.proj_size = bias, batch_first, bidirectional, proj_size
        _check_arguments(mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        self.dropout = float(dropout)
        gates, directions = GATES[mode] * hidden_size, 2 if bidirectional else 1
        state = proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[:directions]:
                wide = input_size if layer == 0 else state * directions
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, wide), "weight_hh": (gates, state)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = {name: f"{name}_l{layer}{suffix}" for name in shapes}
                for name, shape in shapes.items():
                    setattr(self, names[name], Parameter(empty(shape, device=device, dtype=dtype)))
                self._all_weights.append(list(names.values()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: it is for PyTorch's programs, where it lets cuDNN find the weights in one piece of memory."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [weight for weights in self.all_weights for weight in weights]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
                            ("bidirectional", False)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text

    # --- what was given -----------------------------------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """RuntimeError for another number of dimensions or features, ValueError for another dtype than the weights'."""
        weight = getattr(self, self._all_weights[0][0])
        if input.dtype != weight.dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                             f"Convert input: input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        dims = 3 if batch_sizes is None else 2
        if input.dim() != dims:
            raise ShapeError(f"input must have {dims} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise ShapeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}")

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """The shape (layers * directions, batch, state) of an initial state."""
        batch = input.size(0 if self.batch_first else 1) if batch_sizes is None else int(batch_sizes[0])
        return self.num_layers * (2 if self.bidirectional else 1), batch, self.proj_size or self.hidden_size

    def check_hidden_size(self, hx: Tensor, expected_hidden_size: tuple[int, int, int],
                          msg: str = "Expected hidden size {}, got {}") -> None:
        """RuntimeError for a state of another shape."""
        if tuple(hx.shape) != expected_hidden_size:
            raise ShapeError(msg.format(expected_hidden_size, list(hx.shape)))

    def check_forward_args(self, input: Tensor, hidden: Tensor, batch_sizes: Tensor | None) -> None:
        """`check_input` and `check_hidden_size`."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx: Tensor, permutation: Tensor | None) -> Tensor:
        """A state with its batch in another order."""
        return hx if permutation is None else hx.index_select(1, permutation)

    def _state_dims(self, hx: Tensor, batched: bool) -> None:
        wanted = 3 if batched else 2
        if hx.dim() != wanted:
            raise ShapeError(f"For {'batched' if batched else 'unbatched'} {wanted}-D input, hx should also be {wanted}-D but got "
                             f"{hx.dim()}-D tensor")

    # --- forward ------------------------------------------------------------------------------------------------------

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Outputs (steps, batch, directions * state), laid out or packed as the input, and the last state of each layer."""
        packed = input if isinstance(input, PackedSequence) else None
        x = input if packed is None else packed.data
        if packed is None:
            if x.dim() not in (2, 3):
                kind = self.mode[:3] if self.mode[0] == "R" else self.mode
                raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {x.dim()}D {self._article}")
            batched, along = x.dim() == 3, 0 if self.batch_first else 1
            x = x if batched else x.unsqueeze(along)
            if hx is not None:
                self._state_dims(hx, batched)
                hx = hx if batched else self._each(hx, lambda t: t.unsqueeze(1))
            batch_sizes = None
        else:
            batch_sizes = packed.batch_sizes
            if hx is not None:
                hx = self.permute_hidden(hx, packed.sorted_indices)
        if hx is None:
            self.check_input(x, batch_sizes)
            states = self._start(x, batch_sizes)
        else:
            self.check_forward_args(x, hx, batch_sizes)
            states = self._states(hx)
        if packed is not None:
            rows, last = self._layers(x, states, tuple(batch_sizes.tolist()))
            hidden = self.permute_hidden(self._joined(last), packed.unsorted_indices)
            return PackedSequence(rows, batch_sizes, packed.sorted_indices, packed.unsorted_indices), hidden
        if self.batch_first:
            x = x.transpose(0, 1)
        steps, batch = x.shape[:2]
        if not steps:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        rows, last = self._layers(x.reshape(steps * batch, x.shape[2]), states, (batch,) * steps)
        output, hidden = rows.view(steps, batch, rows.shape[1]), self._joined(last)
        if not batched:
            return output.squeeze(1), self._each(hidden, lambda t: t.squeeze(1))
        return output.transpose(0, 1) if self.batch_first else output, hidden

    def _layers(self, rows: Tensor, states: list[list[Tensor]], sizes: tuple[int, ...]) -> tuple[Tensor, list[list[Tensor]]]:
        """All layers and directions: rows of the last layer's outputs, last states of each layer and direction."""
        last, directions = [], 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outs = []
            for k in range(layer * directions, (layer + 1) * directions):
                weights = [getattr(self, name) for name in self._all_weights[k]]
                w_hr = weights.pop() if self.proj_size else None
                biases = weights[2:] or (None, None)
                out, *state = run_layer(self.mode, rows, states[k], [*weights[:2], *biases, w_hr], sizes, k % directions == 1)
                outs.append(out)
                last.append(state)
            rows = outs[0] if directions == 1 else cat(outs, 1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                rows = F.dropout(rows, self.dropout, True)
        return rows, last

    def _start(self, x: Tensor, batch_sizes: Tensor | None) -> list[list[Tensor]]:
        """Initial states of zeros for each layer and direction."""
        count, batch, state = self.get_expected_hidden_size(x, batch_sizes)
        return [[zeros(batch, state, dtype=x.dtype, device=x.device)]] * count

    def _states(self, hx: Any) -> list[list[Tensor]]:
        return [[state] for state in hx.unbind(0)]

    def _joined(self, last: list[list[Tensor]]) -> Any:
        return last[0][0].unsqueeze(0) if len(last) == 1 else stack([state for state, in last])

    def _each(self, hx: Any, change: Any) -> Any:
        return change(hx)


def _check_arguments(mode: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
                     proj_size: int) -> None:
    if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
    if dropout > 0 and num_layers == 1:
        warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers "
                      f"greater than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=4)
    for name, value in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")
    if mode not in GATES:
        raise ValueError("Unrecognized RNN mode: " + mode)


def _no_projection(options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """h = tanh(w_ih x + b_ih + w_hh h + b_hh), or relu of it: RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh",
    bias=True, batch_first=False, dropout=0.0, bidirectional=False).
    """

    _article = "tensor instead"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(kwargs)
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity


class GRU(RNNBase):
    """r, z = sigmoid(...), n = tanh(w_in x + b_in + r (w_hn h + b_hn)), h = (1 - z) n + z h: GRU(input_size, hidden_size,
    num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False). Cho et al. (2014).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)


class LSTM(RNNBase):
    """i, f, o = sigmoid(...), g = tanh(...), c = f c + i g, h = o tanh(c) (times w_hr where proj_size): LSTM(input_size,
    hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0).

    The state is a pair (h, c). Hochreiter, Schmidhuber (1997).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """The shape (layers * directions, batch, hidden) of an initial cell."""
        count, batch, _ = self.get_expected_hidden_size(input, batch_sizes)
        return count, batch, self.hidden_size

    def check_forward_args(self, input: Tensor, hidden: tuple[Tensor, Tensor], batch_sizes: Tensor | None) -> None:
        """`check_input`, and `check_hidden_size` of state and cell."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden[0], self.get_expected_hidden_size(input, batch_sizes), "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hidden[1], self.get_expected_cell_size(input, batch_sizes), "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: tuple[Tensor, Tensor], permutation: Tensor | None) -> tuple[Tensor, Tensor]:
        """State and cell with their batch in another order."""
        return hx if permutation is None else self._each(hx, lambda t: t.index_select(1, permutation))

    def _state_dims(self, hx: tuple[Tensor, Tensor], batched: bool) -> None:
        wanted = 3 if batched else 2
        if hx[0].dim() != wanted or hx[1].dim() != wanted:
            raise ShapeError(f"For {'batched' if batched else 'unbatched'} {wanted}-D input, hx and cx should also be {wanted}-D "
                             f"but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors")

    def _start(self, x: Tensor, batch_sizes: Tensor | None) -> list[list[Tensor]]:
        (count, batch, state), cell = self.get_expected_hidden_size(x, batch_sizes), self.hidden_size
        return [[zeros(batch, size, dtype=x.dtype, device=x.device) for size in (state, cell)]] * count

    def _states(self, hx: tuple[Tensor, Tensor]) -> list[list[Tensor]]:
        return [list(pair) for pair in zip(hx[0].unbind(0), hx[1].unbind(0), strict=True)]

    def _joined(self, last: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        return tuple(state[0].unsqueeze(0) if len(state) == 1 else stack(state) for state in zip(*last, strict=True))

    def _each(self, hx: tuple[Tensor, Tensor], change: Any) -> tuple[Tensor, Tensor]:
        return change(hx[0]), change(hx[1])


__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]
