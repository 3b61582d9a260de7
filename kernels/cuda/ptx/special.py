"""Special registers: %tid, %ctaid, %laneid, %lanemask_lt, ... of the threads that run now."""
from __future__ import annotations

import numpy as np

from .errors import SyntaxFault, UnsupportedInstruction

_AXES = ("tid", "ntid", "ctaid", "nctaid", "clusterid", "nclusterid", "cluster_ctaid", "cluster_nctaid")
_PLAIN = ("laneid", "warpid", "nwarpid", "smid", "nsmid", "gridid", "dynamic_smem_size", "total_smem_size", "lanemask_eq",
          "lanemask_lt", "lanemask_le", "lanemask_gt", "lanemask_ge")
_REFUSED = ("clock", "clock64", "clock_hi", "globaltimer", "pm0", "envreg0", "aggr_smem_size", "is_explicit_cluster")
NAMES = {f"%{word}.{axis}" for word in _AXES for axis in "xyz"} | {f"%{word}" for word in _PLAIN + _REFUSED}


def special_register(m, name: str) -> np.ndarray:
    """The values (threads,), or (1,) where all threads agree, uint32. `m` is the machine."""
    word, _, part = name[1:].partition(".")
    axis = "xyz".find(part) if part else -1
    if axis >= 0:
        if word == "tid":
            return (m.inside // int(np.prod(m.block_shape[:axis])) % m.block_shape[axis]).astype(np.uint32)
        if word == "ctaid":
            block = m.first + m.block
            return (block // int(np.prod(m.grid[:axis])) % m.grid[axis]).astype(np.uint32)
        if word in ("ntid", "nctaid"):
            return np.array([(m.block_shape if word == "ntid" else m.grid)[axis]], np.uint32)
        if word in ("clusterid", "cluster_ctaid"):
            return special_register(m, f"%ctaid.{part}") if word == "clusterid" else np.zeros(1, np.uint32)
        return special_register(m, f"%nctaid.{part}") if word == "nclusterid" else np.ones(1, np.uint32)
    lane, one, every = m.lane.astype(np.uint64), np.uint64(1), np.uint64(0xffffffff)
    simple = {
        "laneid": m.lane, "warpid": m.inside // 32, "nwarpid": [m.warps_per_block], "smid": [0], "nsmid": [1], "gridid": [0],
        "dynamic_smem_size": [m.dynamic], "total_smem_size": [m.access.shared_bytes],
        "lanemask_eq": one << lane, "lanemask_lt": (one << lane) - one, "lanemask_le": (one << (lane + one)) - one,
        "lanemask_gt": every ^ ((one << (lane + one)) - one), "lanemask_ge": every ^ ((one << lane) - one),
    }
    return np.asarray(simple[word]).astype(np.uint32)


def check_name(name: str) -> None:
    """Raise for a special register that does not exist here."""
    if name[1:] in _REFUSED:
        raise UnsupportedInstruction(f"special register {name}")
    if name not in NAMES:
        raise SyntaxFault(f"operand {name} is not declared")
