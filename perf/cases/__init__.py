"""The cases, by question. A case is one line: a name, a function of `xp` (see `perf/libraries.py`), a bar.

A new file is added to `GROUPS` here, a new case to the file whose question it answers; nothing else needs an edit.
"""
from perf.cases import (
    accuracy,
    classify,
    compiled,
    convolution,
    loading,
    minimize,
    normalization,
    pointwise,
    process,
    recurrent,
    reduce,
    tiny,
    training,
    user_kernels,
)

GROUPS = (
    *tiny.GROUPS, *pointwise.GROUPS, *reduce.GROUPS, *process.GROUPS, *accuracy.GROUPS, *convolution.GROUPS,
    *normalization.GROUPS, *classify.GROUPS, *recurrent.GROUPS, *training.GROUPS, *loading.GROUPS,
    *compiled.GROUPS, *minimize.GROUPS, *user_kernels.GROUPS,
)
