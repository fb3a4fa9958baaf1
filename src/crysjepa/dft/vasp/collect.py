"""Collect finished calculations: S.U.N. and V.S.U.N. by DFT (paper, Table 1 and appendix D.3).

There is a row for every row of the first manifest. ``status``, ``stage`` and ``reason`` are those by DFT,
structures are VASP's where it finished. Beside the columns that the candidates had are ``dft_state``
(:class:`~crysjepa.dft.outcome.State`), ``dft_reason``, ``dft_try``, ``dft_folder``,
``dft_energy_per_atom`` (uncorrected), ``dft_correction_per_atom``, ``dft_adjustments`` (JSON, eV/atom by
name), ``dft_formation_energy_per_atom``, ``dft_run_type``, ``dft_potcars``, ``dft_vasp_version``,
``dft_differences`` (settings other than the input set's, where the energy means the same) and ``dft_`` with
each column of a judgement.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.dft.outcome import Outcome, State, outcome
from crysjepa.dft.vasp.corrections import Corrected, corrected, mp2020, vasp_references
from crysjepa.dft.vasp.documents import read_documents
from crysjepa.dft.vasp.manifest import RIVALS, Manifest
from crysjepa.dft.vasp.outputs import read_folder
from crysjepa.dft.verdicts import STAGE, Collected, write_verdicts
from crysjepa.energy.elemental_references import MP2020, ElementalReferences, ScaleMismatch, check_scales
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import crystal_metrics
from crysjepa.evaluation.reference import Known
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows.inputs import Source


def dft_collect(
    folders: Sequence[Source],
    out: Source | None = None,
    *,
    hull: Source | None = None,
    reference: Source = NAME,
    elements: Source | None = None,
    protocol: Protocol | None = None,
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Collected:
    """Read what VASP left of exported candidates; write ``candidates.parquet`` and ``metrics.json``.

    The energies are VASP's of the static calculation, with the Materials Project's corrections of 2020, less
    those of the elements; validity, uniqueness and novelty are judged anew, on the structures that VASP
    relaxed.

    Parameters
    ----------
    folders
        What :func:`~crysjepa.dft.vasp.export.dft_export` wrote, first the first try, then retries of what
        failed in it: of each candidate, the first calculation that finished counts. What finished of the
        first one's competing compounds joins the hull, and is written to ``competitors.parquet``.
    out
        By default the folder ``collected`` in the first of them. Results that are there are replaced.
    hull, reference
        A file, folder or data set name; the hull is by default the bundled one and the reference's energies.
    elements
        Energies of the elements; see :func:`~crysjepa.dft.vasp.corrections.vasp_references`.
    protocol
        How to judge; nothing of it about relaxation is used.

    Raises
    ------
    ValueError
        If a folder is none of ours, or a retry is of other candidates.
    ScaleMismatch
        If the hull is on another scale than the Materials Project's of today, unless the protocol allows it.
    """
    protocol = (protocol or Protocol()).model_copy(update={"relax": False})
    manifests = [Manifest.read(f) for f in folders]
    known = Known.load(reference)
    found_hull = known.hull_or_default(hull)
    table, outcomes, notes = _outcomes(manifests, progress)
    table, energies = _with_energies(table, outcomes)
    references = vasp_references(elements, _lowest_of_elements(table, outcomes, energies))
    _check_hull(found_hull, references, protocol.allow_mixed_scales)
    out = Path(folders[0]) / "collected" if out is None else Path(out)
    if (rivals := Path(folders[0]) / RIVALS / "manifest.parquet").is_file():
        found_hull, more = _with_competitors(found_hull, rivals.parent, references, out, progress)
        notes += more
    table, missing = _with_formation_energies(table, energies, references)
    judge = Evaluator.prepare(protocol, known, found_hull, None, processes=processes)
    about = {
        "num_exported": len(set().union(*(m.exported for m in manifests))),
        "corrections": MP2020,
        "hull": _about(found_hull),
        "elemental_references": {"source": references.source, "scale": references.scale},
        "missing_elemental_references": dict(Counter(e for found in missing.values() for e in found)),
        "notes": notes,
        "tries": [m.settings for m in manifests],
    }
    if differ := sum(bool(o.notes) for o in outcomes.values()):
        notes.append(f"{differ} calculations differ from the input set: column dft_differences")
    return write_verdicts(
        table, judge, out, about,
        force_field=crystal_metrics(manifests[0].table), missing=missing, progress=progress,
    )  # fmt: skip


def _outcomes(
    manifests: Sequence[Manifest], progress: StageProgress | None
) -> tuple[CandidateTable, dict[str, Outcome], list[str]]:
    """The first manifest's table with what became of each row, and notes for people."""
    if not manifests:
        raise ValueError("name a folder of crysjepa dft export")
    table, notes = manifests[0].table, []
    outcomes = {i: Outcome(State.NOT_EXPORTED) for i in table.ids}
    where: dict[str, tuple[str, str]] = {}
    for manifest in manifests:
        strangers = sorted(set(manifest.table.ids) - set(table.ids))
        if strangers:
            raise ValueError(
                f"{manifest.folder} is no retry of {manifests[0].folder}: no row {strangers[0]!r}"
            )
        _check_formulas(manifest, manifests[0])
        steps, told = read_documents(manifest)
        notes += told + _strange_folders(manifest)
        left = [i for i in manifest.exported if outcomes[i].state != State.FINISHED]
        names = dict(zip(left, manifest.table.column("dft_folder", left), strict=True))
        for done, crystal in enumerate(manifest.table.crystals(left), start=1):
            (id_,) = crystal.ids
            composition = crystal.compositions()[0]
            found = outcome(steps.get(id_, {}), composition)
            if found.state != State.FINISHED:
                by_hand = read_folder(
                    manifest.folder / "inputs" / names[id_], composition, crystal.to_structures()[0]
                )
                found = found if by_hand.state == State.NOT_STARTED else by_hand
            if found.state != State.NOT_STARTED or outcomes[id_].state == State.NOT_EXPORTED:
                outcomes[id_], where[id_] = found, (manifest.folder.name, names[id_])
            if progress is not None:
                progress(f"read {manifest.folder.name}", done, len(left))
    table = set_column(table, "dft_try", {i: w[0] for i, w in where.items()}, "string")
    table = set_column(table, "dft_folder", {i: w[1] for i, w in where.items()}, "string")
    table = set_column(table, "dft_state", {i: str(o.state) for i, o in outcomes.items()}, "string")
    return table, outcomes, notes


def _with_competitors(
    hull: Hull, folder: Path, references: ElementalReferences, out: Path, progress: StageProgress | None
) -> tuple[Hull, list[str]]:
    """The hull with what finished of the competing compounds, and notes; their rows go to ``out``."""
    table, outcomes, notes = _outcomes([Manifest.read(folder)], progress)
    table, energies = _with_energies(table, outcomes)
    table, _ = _with_formation_energies(table, energies, references)
    out.mkdir(parents=True, exist_ok=True)
    table.write(out / f"{RIVALS}.parquet")
    found = dict(zip(table.ids, table.column("dft_formation_energy_per_atom"), strict=True))
    done = [i for i, energy in found.items() if energy is not None]
    notes.append(
        f"of {len(table)} competing compounds that were exported {len(done)} have an energy by DFT, and are "
        "on the hull"
    )
    if not done:
        return hull, notes
    compounds, ids = table.crystals(done).compositions(), [f"{RIVALS}/{i}" for i in done]
    own = Hull.from_entries(
        compounds, [found[i] for i in done], scale=hull.scale, source=f"{len(done)} competing by DFT",
        ids=ids, elements_alone=True,
    )  # fmt: skip
    return hull.joined(own), notes


def _check_formulas(retry: Manifest, first: Manifest) -> None:
    """Raise ValueError where a retry has another composition under an id of the first try."""
    ids = [i for i in retry.exported if i in set(first.exported)]
    formulas = (m.table.crystals(ids).reduced_formulas() for m in (retry, first))
    for id_, now, before in zip(ids, *formulas, strict=True):
        if now != before:
            raise ValueError(
                f"{retry.folder} is no retry of {first.folder}: {id_!r} is {now} there, and {before} here"
            )


def _strange_folders(manifest: Manifest) -> list[str]:
    """A note of folders under ``inputs`` that are no crystal's, and are not read."""
    inputs = manifest.folder / "inputs"
    names = set(manifest.table.column("dft_folder"))
    there = inputs.iterdir() if inputs.is_dir() else ()
    found = sorted(p.name for p in there if p.is_dir() and p.name not in names)
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"folders in {manifest.folder.name}/inputs that are of no crystal here, and are not read: "
            f"{', '.join(found[:3])}{more}"]  # fmt: skip


def _with_energies(
    table: CandidateTable, outcomes: dict[str, Outcome]
) -> tuple[CandidateTable, dict[str, Corrected]]:
    """VASP's structures and energies, and the corrections; what is incompatible with them has failed."""
    done = {i: o for i, o in outcomes.items() if o.entry is not None}
    structures = [o.entry.structure for o in done.values() if o.entry is not None]
    table = table.with_structures(Crystals.from_structures(structures, list(done)))
    scheme, energies = mp2020(), {}
    columns: dict[str, dict[str, Any]] = {
        n: {} for n in ("energy_per_atom", "correction_per_atom", "adjustments", "run_type", "potcars",
                        "vasp_version", "differences")
    }  # fmt: skip
    for id_, found in done.items():
        assert found.entry is not None
        energies[id_] = one = corrected(found.entry, scheme)
        per_atom, parameters = found.entry.uncorrected_energy_per_atom, found.entry.parameters
        columns["energy_per_atom"][id_] = per_atom
        columns["run_type"][id_] = parameters.get("run_type")
        columns["potcars"][id_] = ", ".join(_potcars(parameters))
        columns["vasp_version"][id_] = found.vasp_version
        columns["differences"][id_] = "; ".join(found.notes) or None
        if one.energy_per_atom is None:
            outcomes[id_] = Outcome(State.INCOMPATIBLE, one.reason)
        else:
            columns["correction_per_atom"][id_] = one.energy_per_atom - per_atom
            columns["adjustments"][id_] = json.dumps(dict(one.adjustments))
    for name, values in columns.items():
        table = set_column(table, f"dft_{name}", values, "Float64" if name.endswith("per_atom") else "string")
    reasons = {i: f"{o.state}: {o.reason}" for i, o in outcomes.items() if o.reason is not None}
    table = set_column(table, "dft_state", {i: str(o.state) for i, o in outcomes.items()}, "string")
    table = set_column(table, "dft_reason", {i: o.reason for i, o in outcomes.items()}, "string")
    again = table.undecided().frame.copy()
    kept = (table.frame["dft_state"] == State.NOT_EXPORTED).to_numpy(dtype=bool)
    again.loc[kept, ["status", "stage", "reason"]] = table.frame.loc[kept, ["status", "stage", "reason"]]
    return CandidateTable(again).decide(STAGE, reasons, Status.FAILED), energies


def _potcars(parameters: dict[str, Any]) -> list[str]:
    titles = [str(spec["titel"]) for spec in parameters.get("potcar_spec") or [] if spec]
    return titles or [str(s) for s in parameters.get("potcar_symbols") or []]


def _lowest_of_elements(
    table: CandidateTable, outcomes: dict[str, Outcome], energies: dict[str, Corrected]
) -> dict[str, float]:
    lowest: dict[str, float] = {}
    done = [i for i, e in energies.items() if e.energy_per_atom is not None]
    for id_, composition in zip(done, table.crystals(done).compositions(), strict=True):
        energy = energies[id_].energy_per_atom
        if composition.is_element and energy is not None:
            symbol = str(composition.elements[0])
            lowest[symbol] = min(energy, lowest.get(symbol, float("inf")))
    return lowest


def _check_hull(hull: Hull, references: ElementalReferences, allow_mixed: bool) -> None:
    if hull.references is not None and not allow_mixed:
        raise ScaleMismatch(
            f"{hull.source} is a hull of energies of the force field {hull.references.force_field!r}; DFT "
            "needs a hull of DFT energies (or --allow-mixed-scales)"
        )
    check_scales(references.scale, hull.scale, allow_mixed=allow_mixed)


def _about(hull: Hull) -> dict[str, Any]:
    return {
        "source": hull.source,
        "scale": hull.scale,
        "scale_stated": hull.scale_stated,
        "compounds": len(hull),
        "left_out": hull.left_out,
        "content_hash": hull.content_hash,
    }


def _with_formation_energies(
    table: CandidateTable, energies: dict[str, Corrected], references: ElementalReferences
) -> tuple[CandidateTable, dict[str, list[str]]]:
    """Formation energies; and by id the elements whose reference is missing."""
    done = [i for i, e in energies.items() if e.energy_per_atom is not None]
    values: dict[str, float | None] = {}
    missing: dict[str, list[str]] = {}
    for id_, composition in zip(done, table.crystals(done).compositions(), strict=True):
        values[id_], _ = references.formation_energy_per_atom(composition, energies[id_].energy_per_atom)
        unknown = sorted(str(e) for e in composition if str(e) not in references.energies)
        if unknown:
            missing[id_] = unknown
    return set_column(table, "dft_formation_energy_per_atom", values, "Float64"), missing
