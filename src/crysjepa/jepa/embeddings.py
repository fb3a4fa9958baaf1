"""Embeddings on disk: Parquet with the columns ``id`` and ``embedding``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def embedding_table(ids: Sequence[str], embeddings: NDArray[np.float32]) -> pa.Table:
    """Columns ``id`` and ``embedding`` (a list of D numbers) from embeddings (B, D)."""
    flat = pa.array(embeddings.reshape(-1), type=pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    return pa.table({"id": pa.array(ids, type=pa.string()), "embedding": lists})


def read_embeddings(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Ids and embeddings (B, D) of a file that :func:`embedding_table` made."""
    table = pq.read_table(path)
    column = table["embedding"].combine_chunks()
    width = column.type.list_size
    return table["id"].to_pylist(), column.flatten().to_numpy().astype(np.float64).reshape(-1, width)
