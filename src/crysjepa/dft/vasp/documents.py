"""Read output documents of atomate2 jobs, as JSON; neither atomate2 nor jobflow is needed for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monty.io import zopen
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from crysjepa.dft.outcome import Step, short
from crysjepa.dft.vasp.convergence import NO_STEP, Convergence, convergence
from crysjepa.dft.vasp.manifest import STAGES, Manifest
from crysjepa.dft.vasp.settings import Differences, differences, divisions, functional

_NAMES = dict(zip(("relax 1", "relax 2", "static"), STAGES, strict=True))
"""How the names of atomate2's jobs end."""


def read_documents(manifest: Manifest) -> tuple[dict[str, dict[str, Step]], list[str]]:
    """Steps by id and stage from ``outputs/*.json`` (or ``.json.gz``), and what could not be used.

    A file holds one document of a JobStore, or a list of them. A document belongs to the crystal whose job
    has its ``uuid``, or whose id is in its ``metadata``; of several of one job, the one of highest ``index``
    counts.
    """
    jobs, known = _jobs(manifest), set(manifest.exported)
    found: dict[tuple[str, str], tuple[int, Step]] = {}
    notes: list[str] = []
    strangers = 0
    for path in sorted((manifest.folder / "outputs").glob("*.json*")):
        try:
            documents = list(_documents(path))
        except (OSError, EOFError, ValueError) as error:
            notes.append(f"outputs/{path.name} is no JSON of documents: {error}")
            continue
        for document in documents:
            key = jobs.get(str(document.get("uuid"))) or _by_metadata(document)
            if key is None or key[0] not in known:
                strangers += 1
                continue
            index = int(document.get("index") or 0)
            if key not in found or index >= found[key][0]:
                found[key] = (index, read_document(document.get("output")))
    outputs = manifest.folder / "outputs"
    others = sorted(p.name for p in (outputs.iterdir() if outputs.is_dir() else ())
                    if ".json" not in p.name and not p.name.startswith("."))  # fmt: skip
    if others:
        notes.append(f"not read in outputs, for they are no .json: {', '.join(others)[:100]}")
    if strangers:
        notes.append(f"{strangers} documents in outputs belong to no crystal of this export")
    steps: dict[str, dict[str, Step]] = {}
    for (id_, stage), (_, step) in found.items():
        steps.setdefault(id_, {})[stage] = step
    return steps, notes


def read_document(output: Any) -> Step:
    """One calculation from emmet's TaskDoc as a dictionary; ``trouble`` says why, if it cannot be read."""
    try:
        entry, calculation = output["entry"], output["calcs_reversed"][0]
        structure = Structure.from_dict(output.get("structure") or output["output"]["structure"])
        full = ComputedStructureEntry(structure, float(entry["energy"]), parameters=dict(entry["parameters"]))
        return Step(
            full,
            _convergence(calculation, len(structure)),
            calculation.get("vasp_version"),
            settings=_settings(structure, entry["parameters"], calculation["input"]),
            electrons=(calculation["input"].get("parameters") or {}).get("NELECT"),
        )
    except Exception as error:  # noqa: BLE001 - a document may lack anything
        return Step(trouble=short(f"its output document cannot be read ({type(error).__name__}: {error})"))


def _convergence(calculation: dict[str, Any], num_atoms: int) -> Convergence:
    """As of a vasprun.xml; where all steps look converged and emmet says that not all is, it is right."""
    done = calculation.get("has_vasp_completed") in ("successful", True)
    parameters = calculation["input"].get("parameters") or {}
    found = convergence(
        calculation.get("output", {}).get("ionic_steps") or (), parameters, num_atoms, completed=done
    )
    if done or found != Convergence():
        return Convergence() if done and found.electronic == NO_STEP else found
    why = "emmet says that it did not converge"
    return Convergence(None, why) if parameters.get("NSW", 0) > 1 else Convergence(why)


def _settings(structure: Structure, entry: dict[str, Any], given: dict[str, Any]) -> Differences:
    titles = [spec.get("titel") for spec in entry.get("potcar_spec") or () if spec]
    return differences(
        structure, given.get("parameters") or {}, given.get("incar") or {},
        run_type=functional(entry.get("run_type"), titles), hubbards=entry.get("hubbards") or {},
        mesh=divisions(given.get("kpoints")),
    )  # fmt: skip


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    with zopen(path, mode="rt", encoding="utf-8") as file:
        content = json.loads(str(file.read()))
    for document in content if isinstance(content, list) else [content]:
        if not isinstance(document, dict):
            raise ValueError(f"a {type(document).__name__} where a document should be")
        yield document


def _jobs(manifest: Manifest) -> dict[str, tuple[str, str]]:
    told = zip(manifest.table.ids, manifest.table.column("dft_jobs"), strict=True)
    given = {i: json.loads(jobs) for i, jobs in told if jobs is not None}
    return {uuid: (i, stage) for i, jobs in given.items() for uuid, stage in jobs.items()}


def _by_metadata(document: dict[str, Any]) -> tuple[str, str] | None:
    told = (document.get("metadata") or {}).get("crysjepa")
    stage = next((s for end, s in _NAMES.items() if str(document.get("name")).endswith(end)), None)
    return None if not isinstance(told, dict) or stage is None else (str(told.get("id")), stage)
