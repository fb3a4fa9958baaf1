"""Data sets by name: where from, which hash, what licence; readers of what others publish."""

from crysjepa.datasets.named import (
    Dataset,
    DatasetError,
    available,
    cache_folder,
    contents,
    download,
    fetch,
    info,
    load,
    told_by,
)

__all__ = [
    "Dataset",
    "DatasetError",
    "available",
    "cache_folder",
    "contents",
    "download",
    "fetch",
    "info",
    "load",
    "told_by",
]
