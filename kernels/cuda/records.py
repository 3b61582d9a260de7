"""Which structural records have kernels of their own on CUDA, and in which module: `RECORDS[name]` -> `kernels.cuda.<module>`.

The module has a function of the record's name with the record's parameters, preceded by the device:

    def gather(device, x, index, dim): ...

Arrays are `launch.View`s; results come from `device.empty(dtype, shape)`, launches go to `device.run`. `NotImplemented` means that
these dtypes or layouts go through the host. Records that are not named here run on the host, as the dispatch table says.
Pointwise records, folds and views need no line: their kernels are derived.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable

RECORDS: dict[str, str] = {
    **dict.fromkeys(("matmul", "bmm", "mv", "dot", "addmm", "addmv", "addr", "addbmm", "baddbmm", "cdist"), "products"),
    **dict.fromkeys(("softmax", "log_softmax", "softmax_backward", "log_softmax_backward"), "rows"),
    **dict.fromkeys(("index", "index_select", "take", "masked_select", "embedding", "gather", "sorted_values", "stable_values",
                     "topk_values"), "gathers"),
    **dict.fromkeys(("index_backward", "index_put", "put", "index_add", "index_copy", "index_fill", "index_fill_value",
                     "masked_scatter", "index_clear", "gather_backward", "scatter", "scatter_add", "scatter_clear",
                     "scatter_value", "scatter_reduce", "index_reduce", "embedding_bag", "embedding_bag_max"), "scatters"),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), "rows"),
    **dict.fromkeys(("convolution", "convolution_affine", "convolution_back", "convolution_back_affine", "convolution_weight"),
                    "convolution"),
    **dict.fromkeys(("max_pool2d", "max_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool2d", "avg_pool3d",
                     "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean_pool_back", "plane_gather", "plane_scatter",
                     "max_unpool2d", "max_unpool3d"), "pooling"),
    **dict.fromkeys(("im2col", "col2im", "resample", "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d",
                     "upsample_bicubic2d", "upsample_bilinear2d_aa", "upsample_bicubic2d_aa", "upsample_lanczos2d_aa",
                     *(f"upsample_{mode}{d}d" for mode in ("nearest", "nearest_exact", "area") for d in (1, 2, 3))), "sampling"),
    **dict.fromkeys((f"native_{n}_norm{b}" for n in ("layer", "rms", "batch", "group") for b in ("", "_backward")), "norms"),
    **dict.fromkeys(("nll_loss", "nll_loss2d", "nll_loss_gradient", "cross_entropy", "cross_entropy_gradient"), "losses"),
    **dict.fromkeys(("argsort", "top_positions"), "sorting"),
    **dict.fromkeys(("search", "member", "groups", "most_frequent", "kth_values", "pick", "place", "median", "nanmedian",
                     "median_dim", "nanmedian_dim", "mode"), "searching"),
    **dict.fromkeys(("lstm_layer", "gru_layer", "rnn_layer"), "recurrent"),
    **dict.fromkeys(("ravel_index", "positions_of_counts", "tril", "triu"), "positions"),
    **dict.fromkeys(("dropout", "poisson_numbers", "choice"), "randoms"),
    **dict.fromkeys(("nonzero_positions", "unravel", "bincount", "bincount_weighted", "histc"), "counting"),
}

# Records that hand on the memory of their operand where its strides allow it: the device layer answers them like views.
SHARING: dict[str, str] = {"reshape": "", "zero_history": ""}


def forward(name: str) -> Callable | None:
    """The function of a record, None where it runs on the host."""
    module = RECORDS.get(name)
    return None if module is None else getattr(importlib.import_module(f"{__package__}.{module}"), name)
