"""``evaluate``, ``compete``, ``compare`` and ``tradeoff`` as plain functions: files in, files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import system_names
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.compare import compare_crystals
from crysjepa.evaluation.given import check_formation_energies, protocol_of, read_given, reference_of
from crysjepa.evaluation.online.phases import fetch_phases
from crysjepa.evaluation.protocol import Trust, as_protocol
from crysjepa.evaluation.reference import Known
from crysjepa.evaluation.run import JudgingOptions, Protocol, evaluate_crystals
from crysjepa.evaluation.yardsticks import evaluate_by_yardsticks
from crysjepa.runtime.progress import StageProgress, of_stage
from crysjepa.workflows.inputs import Source
from crysjepa.workflows.output import check_folder


def evaluate(
    source: Source,
    out: Source,
    *,
    reference: Source | None = None,
    hull: Source | None = None,
    protocol: Protocol | str | None = None,
    finetuned_on: Source | None = None,
    phases: str | None = None,
    yardsticks: bool = False,
    **how: Unpack[JudgingOptions],
) -> dict[str, Any]:
    """Judge crystals by V, S, U, N, S.U.N. and V.S.U.N.; writes its results into the folder ``out``.

    ``source`` may be a finished run, of ``discover`` or of ``evaluate``: its crystals are judged anew.
    Energies that come with the crystals, of the protocol's force field, are used, and nothing is relaxed;
    ``anew`` relaxes all the same. With a ``hull`` and a protocol that relaxes nothing they are used whatever
    their force field, or else the crystals' ``formation_energy_per_atom``. ``protocol`` may be the name of a
    preset; without one a run is judged by its own, and without a ``reference`` against that of its
    configuration, else against the bundled one. ``phases`` names a provider of known phases (``"mp"``, or
    ``"mp=URL"``) that are fetched over the network and join the hull: those of the short list's chemical
    systems where there is a short list, else of all crystals. ``yardsticks`` judges by MatterGen's and
    GenBench's definitions too (:func:`crysjepa.evaluation.yardsticks.evaluate_by_yardsticks`). See
    :func:`crysjepa.evaluation.run.evaluate_crystals`.
    """
    given = read_given(source)
    protocol = as_protocol(protocol) or protocol_of(source)
    if phases is not None and protocol is not None and not protocol.relax and given.origin is None:
        check_formation_energies(given.table, "--fetch-phases")  # before anything is fetched
    reference = reference or reference_of(source) or NAME
    chosen: Source | Hull | None = hull
    if phases is not None:
        chosen = _with_phases(given.table, reference, hull, phases, how.get("progress"))
    judge = evaluate_by_yardsticks if yardsticks else evaluate_crystals
    return judge(
        given,
        Path(out),
        reference=reference,
        hull=chosen,
        protocol=protocol,
        finetuned_on=finetuned_on,
        **how,
    )


def compete(
    source: Source,
    out: Source,
    *,
    reference: Source | None = None,
    hull: Source | None = None,
    protocol: Protocol | str | None = None,
    trust: Trust | None = None,
    **how: Unpack[JudgingOptions],
) -> dict[str, Any]:
    """Search for what competes with crystals, and judge them by the hull that results.

    As :func:`evaluate`, whose files it writes, with ``trust`` for every crystal that did not fail:
    ``crystals.parquet`` has ``e_above_closed_hull``, ``decomposes_to`` and what else
    :func:`crysjepa.evaluation.trust.with_trust` adds, ``competitors.parquet`` the competing crystals that
    were found. Energies that come with the crystals are used.
    """
    chosen = as_protocol(protocol) or protocol_of(source) or Protocol()
    trust = trust or Trust(which="all", most=None)
    judged_by = chosen.model_copy(update={"trust": trust})
    return evaluate(source, out, reference=reference, hull=hull, protocol=judged_by, **how)


def _with_phases(
    table: CandidateTable, reference: Source, hull: Source | None, phases: str, progress: StageProgress | None
) -> Hull:
    provider, _, url = phases.partition("=")
    ids = table.ok_ids
    if "shortlist_rank" in table:
        ranks = zip(table.ids, table.column("shortlist_rank"), strict=True)
        ids = [i for i, rank in ranks if rank is not None]
    systems = system_names(table.crystals(ids)) if ids else []
    fetched = fetch_phases(
        systems,
        provider,
        base_url=url or None,
        progress=of_stage(progress, f"phases known to {provider}"),
    )
    return Known.load(reference).hull_or_default(hull).joined(fetched)


def compare(
    sources: Sequence[Source],
    out: Source,
    *,
    reference: Source = NAME,
    hull: Source | None = None,
    protocol: Protocol | str | None = None,
    anyway: bool = False,
    yardsticks: bool = False,
    **how: Unpack[JudgingOptions],
) -> Path:
    """Compare evaluated sets of crystals and samples in any format; the page's path is returned.

    See :func:`crysjepa.evaluation.compare.compare_crystals`.
    """
    check_folder(out)
    return compare_crystals(
        sources, out, reference=reference, hull=hull, protocol=as_protocol(protocol), anyway=anyway,
        yardsticks=yardsticks, **how,
    )  # fmt: skip


def tradeoff(
    result: Source,
    *,
    reference: Source | None = None,
    by: str = "fingerprint",
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Path:
    """How S, N and S.U.N. change with the distance from known crystals; the page's path is returned.

    See :func:`crysjepa.evaluation.tradeoff.tradeoff_of_result`.
    """
    from crysjepa.evaluation.tradeoff import tradeoff_of_result  # with torch

    return tradeoff_of_result(result, reference=reference, by=by, processes=processes, progress=progress)
