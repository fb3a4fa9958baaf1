"""Fingerprints in processes beside matminer's featurizers called one crystal after the other."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.fingerprints.cache import fingerprints
from crysjepa.ranking.fingerprints.ranker import Fingerprints


def compare_fingerprints(crystals: Crystals) -> dict[str, Any]:
    """Seconds of both and the largest difference of a value; why not, where matminer is missing.

    A difference is relative to the value, or to 0.01 where that is more (CrystalNN's lie between 0 and 1).
    """
    if importlib.util.find_spec("matminer") is None:
        return {"not_measured": 'matminer is not installed: pip install "crysjepa[fingerprints]"'}
    started = time.perf_counter()
    theirs = _one_by_one(crystals)
    plain_seconds = time.perf_counter() - started
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        ours = fingerprints(Fingerprints(), crystals, Path(folder), processes=processes)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        fingerprints(Fingerprints(), crystals, Path(folder), processes=processes)
        again = time.perf_counter() - started
    vectors = dict(zip(ours.rows.tolist(), ours.vectors, strict=True))
    both = [row for row in vectors if theirs[row] is not None]
    gaps = [float((np.abs(vectors[r] - theirs[r]) / np.maximum(np.abs(theirs[r]), 0.01)).max()) for r in both]
    return {
        "num_crystals": len(crystals),
        "num_both": len(both),
        "largest_difference": max(gaps, default=0.0),
        "plain_seconds": plain_seconds,
        "seconds": seconds,
        "seconds_from_cache": again,
        "processes": processes,
    }


def _one_by_one(crystals: Crystals) -> list[Any]:
    from matminer.featurizers.composition import ElementProperty
    from matminer.featurizers.site import CrystalNNFingerprint

    site, magpie = CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for structure in crystals.to_structures():
            try:
                sites = [site.featurize(structure, i) for i in range(len(structure))]
                found.append(
                    np.concatenate([np.mean(sites, axis=0), magpie.featurize(structure.composition)])
                )
            except Exception:  # noqa: BLE001 - CrystalNN fails in many ways; such a crystal is not compared
                found.append(None)
    return found
