"""Collections: documents that stream, queries, judgements and facts, by one string each."""

from .dataset import Dataset, PartedDataset
from .loading import list_datasets, load_dataset

__all__ = ["Dataset", "PartedDataset", "list_datasets", "load_dataset"]
