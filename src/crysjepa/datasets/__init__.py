"""Data sets by name: where from, which hash, what licence; readers of what others publish."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: which data sets there are takes none of the libraries that read them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("crysjepa.datasets.named"), name)
