"""The verbs ``evaluate``, ``compare`` and ``tradeoff`` as plain functions: files in, files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crysjepa._verbs import Report, Source, resolve_device
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluate.compare import compare_crystals
from crysjepa.evaluate.given import EnergyOrigin, energies_of, read_given
from crysjepa.evaluate.protocol import Protocol, evaluate_crystals
from crysjepa.evaluate.tradeoff import tradeoff_of_result


def evaluate(
    source: Source,
    out: Source,
    *,
    reference: Source = NAME,
    hull: Source | None = None,
    protocol: Protocol | None = None,
    finetuned_on: Source | None = None,
    anew: bool = False,
    shards: Source | None = None,
    device: str = "auto",
    processes: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge crystals by V, S, U, N, S.U.N. and V.S.U.N.; writes its results into the folder ``out``.

    ``source`` may be a finished run, of ``discover`` or of ``evaluate``: its crystals are judged anew.
    Energies that come with the crystals, of the protocol's force field, are used, and nothing is relaxed;
    ``anew`` relaxes all the same. See :func:`crysjepa.evaluate.protocol.evaluate_crystals`.
    """
    given = read_given(source)
    return evaluate_crystals(
        given.table, reference=reference, hull=hull, out=Path(out), protocol=protocol,
        finetuned_on=finetuned_on,
        origin=None if anew else given.origin, shards=None if shards is None else Path(shards),
        device=resolve_device(device), processes=processes, progress=progress,
    )  # fmt: skip


def energies_in(source: Source) -> EnergyOrigin | None:
    """Of which force field the energies of crystals are, where their file says so; None where it does not."""
    return energies_of(source)


def compare(
    sources: Sequence[Source],
    out: Source,
    *,
    reference: Source = NAME,
    hull: Source | None = None,
    protocol: Protocol | None = None,
    anyway: bool = False,
    device: str = "auto",
    processes: int = 1,
    progress: Report | None = None,
) -> Path:
    """Compare evaluated sets of crystals and samples in any format; the page's path is returned.

    See :func:`crysjepa.evaluate.compare.compare_crystals`.
    """
    if Path(out).is_file():
        raise ValueError(f"{out} is a file: name a folder to write to")
    return compare_crystals(
        sources, out, reference=reference, hull=hull, protocol=protocol, anyway=anyway,
        device=resolve_device(device), processes=processes, progress=progress,
    )  # fmt: skip


def tradeoff(
    result: Source,
    *,
    reference: Source | None = None,
    by: str = "fingerprint",
    processes: int = 1,
    progress: Report | None = None,
) -> Path:
    """How S, N and S.U.N. change with the distance from known crystals; the page's path is returned.

    See :func:`crysjepa.evaluate.tradeoff.tradeoff_of_result`.
    """
    return tradeoff_of_result(result, reference=reference, by=by, processes=processes, progress=progress)
