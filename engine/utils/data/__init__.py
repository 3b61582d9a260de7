"""Feeding data to a network in batches, under PyTorch's names.

`dataset` says what there is, `sampler` in which order, `collate` how samples become a batch, `fetch` puts the three together;
`dataloader` is what users iterate over, `workers` and `worker` are the two sides of loading in other processes.
"""
from .collate import collate, default_collate, default_collate_fn_map, default_convert
from .dataloader import DataLoader
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler
from .worker import WorkerInfo, get_worker_info

__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "IterableDataset", "RandomSampler", "Sampler",
    "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler", "WorkerInfo",
    "collate", "default_collate", "default_collate_fn_map", "default_convert", "get_worker_info", "random_split",
]
