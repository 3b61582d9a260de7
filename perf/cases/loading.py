"""Question: what do batches cost before a network sees them, and what does calling a module cost by itself?

A sample is a whole pass over the data. Digits: 1797 rows of 64 numbers in batches of 64; MNIST-like: 8192 rows of 784 in batches
of 256. "by sample" is a data set of the user's own, whose samples are collated one by one. NumPy and JAX have neither.
"""
import importlib

import numpy as np

from perf.harness import Case, Group


def passes(rows, columns, batch, own=False, **options):
    """A case of one pass over random data in batches; `own`: by a data set that knows nothing of columns."""

    def build(xp):
        if not xp.records:
            return None
        data, rng = importlib.import_module(f"{xp.name}.utils.data"), np.random.default_rng(0)
        x, y = xp.array(rng.random((rows, columns), np.float32)), xp.array(np.arange(rows))

        class Samples(data.Dataset):
            """Rows of two tensors, written as users write it."""

            def __len__(self):
                return rows

            def __getitem__(self, k):
                return x[k], y[k]

        loader = data.DataLoader(Samples() if own else data.TensorDataset(x, y), batch_size=batch, **options)

        def once():
            for batch in loader:
                last = batch
            return last[0].sum()

        return once

    return build


def call(xp):
    """A module that gives its input back."""
    if not xp.records:
        return None
    module, x = xp.nn.Identity(), xp.array(np.ones(2, np.float32))
    return lambda: module(x)


GROUPS = (
    Group("loading", "what do batches cost before a network sees them?", (
        Case("digits, in order", passes(1797, 64, 64)),
        Case("digits, shuffled", passes(1797, 64, 64, shuffle=True), compare=False),
        Case("digits, shuffled, by sample", passes(1797, 64, 64, own=True, shuffle=True), compare=False),
        Case("MNIST-like, shuffled", passes(8192, 784, 256, shuffle=True), compare=False),
        Case("digits, 2 workers", passes(1797, 64, 64, num_workers=2, persistent_workers=True)),
        Case("a module's call", call),
    )),
)
