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
    **dict.fromkeys(("matmul", "bmm", "mv", "dot", "addmm", "addmv", "addr", "baddbmm"), "products"),
    **dict.fromkeys(("softmax", "log_softmax", "softmax_backward", "log_softmax_backward"), "rows"),
    **dict.fromkeys(("index", "index_select", "take", "masked_select", "embedding", "gather", "sorted_values", "stable_values",
                     "topk_values"), "gathers"),
    **dict.fromkeys(("index_backward", "index_put", "put", "index_add", "index_copy", "index_fill", "index_fill_value",
                     "masked_scatter", "index_clear", "gather_backward", "scatter", "scatter_add", "scatter_clear"), "scatters"),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), "rows"),
}

# Records that hand on the memory of their operand where its strides allow it: the device layer answers them like views.
SHARING: dict[str, str] = {"reshape": "", "zero_history": ""}


def forward(name: str) -> Callable | None:
    """The function of a record, None where it runs on the host."""
    module = RECORDS.get(name)
    return None if module is None else getattr(importlib.import_module(f"{__package__}.{module}"), name)
