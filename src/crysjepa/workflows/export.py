"""Submissions to leaderboards: the files that LeMat-GenBench and Matbench Discovery ask for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa import __version__
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.energy.load_hull import load_hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.evaluation.given import EnergyOrigin, read_given
from crysjepa.io import write_crystals
from crysjepa.runtime.files import file_metadata, write_bytes, write_json, write_text

GENBENCH_SIZE = 2500
"""Crystals of a submission to GenBench: exactly so many."""
FILL_IN = "FILL_IN"
"""Stands where only the submitter knows what to write."""
WBM_SIZE = 256_963
"""Crystals that Matbench Discovery has predictions of."""
_WBM_ID = re.compile(r"wbm-[1-5]-\d+")
_ABOVE_HULL = re.compile(r"score|e_above_hull\w*")
_ENERGIES = ("jepa-hull", "jepa-relaxed")
"""Rankers whose scores are energies above the hull."""
_COMPUTE = ("parameters", "hours", "memory_gb", "hardware")


@dataclass(frozen=True)
class Exported:
    """What was written: ``num`` crystals into ``files``; ``to_fill`` names what the submitter has to add, and
    ``notes`` says what else to know."""

    num: int
    files: tuple[Path, ...]
    to_fill: tuple[str, ...]
    notes: tuple[str, ...] = ()


def export_genbench(
    source: str | Path,
    out: str | Path,
    *,
    by: str | None = None,
    relaxed: bool | None = None,
    compute: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a submission to LeMat-GenBench: exactly 2,500 crystals.

    ``structures.csv`` has the columns ``material_id``, ``structure`` (pymatgen's dictionary as JSON) and
    ``id``, ``cifs.zip`` the same crystals as CIFs, and ``submission.json`` how they were chosen, whether they
    are relaxed, and what they cost.

    Parameters
    ----------
    by
        A column with numbers: of more than 2,500 crystals those with the lowest are taken. By default the
        first, in the order of the rows.
    relaxed
        Whether the crystals are relaxed; by default what the file says of its energies.
    compute
        ``parameters`` of the model, ``hours`` and ``hardware`` of sampling, ``memory_gb``: what is missing is
        to be filled in.

    Raises
    ------
    ValueError
        Where fewer than 2,500 crystals have a structure, with how many lack and why.
    """
    given, out = read_given(source), Path(out)
    chosen, rule = _chosen(given.table, by)
    origin = given.origin
    if relaxed is None and origin is not None:
        relaxed = origin.relaxation.max_steps > 0
    crystals = chosen.crystals(chosen.ids)
    files = tuple(out / name for name in ("structures.csv", "cifs.zip", "submission.json"))
    out.mkdir(parents=True, exist_ok=True)
    write_text(files[0], _structures(crystals))
    write_crystals(crystals, files[1])
    told = {k: v for k, v in (compute or {}).items() if v is not None}
    to_fill = [f"compute.{name}" for name in _COMPUTE if name not in told]
    to_fill += ["relaxed"] if relaxed is None else []
    path = Path(source)
    about: dict[str, Any] = {
        "board": "LeMat-GenBench",
        "num_crystals": len(chosen),
        "num_before": len(given.table),
        "chosen": rule,
        "relaxed": FILL_IN if relaxed is None else relaxed,
        "relaxation": _relaxation(origin) if relaxed else None,
        "compute": {name: told.get(name, FILL_IN) for name in _COMPUTE},
        "made": file_metadata(path).get("made") if path.is_file() else None,
        "content_hash": chosen.content_hash(),
        "crysjepa": __version__,
    }
    write_json(files[2], about)
    return Exported(len(chosen), files, tuple(to_fill))


def _structures(crystals: Crystals) -> str:
    """The table of structures as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("material_id", "structure", "id"))
    for number, (id_, structure) in enumerate(zip(crystals.ids, crystals.to_structures(), strict=True)):
        rows.writerow((number, json.dumps(structure.as_dict()), id_))
    return text.getvalue()


def _relaxation(origin: EnergyOrigin | None) -> dict[str, Any] | None:
    if origin is None:
        return None
    force_field, settings = f"{origin.force_field} {origin.version}", origin.relaxation
    return {"force_field": force_field, "fmax": settings.fmax, "max_steps": settings.max_steps}


def _chosen(table: CandidateTable, by: str | None) -> tuple[CandidateTable, str]:
    """Exactly as many rows as GenBench asks for, and the rule in words."""
    there = table.frame[table.frame["lattice"].notna()]
    lacks = "have a structure"
    rule = f"the first {GENBENCH_SIZE:,} with a structure, in the order of the rows"
    if by is not None:
        if by not in there:
            raise ValueError(f"no column {by!r} to choose by: there are {', '.join(map(str, there.columns))}")
        try:
            numbers = there[by].astype("Float64").dropna()
        except ValueError as error:
            raise ValueError(f"{by!r} holds no numbers to choose by: {error}") from None
        there, lacks = there.loc[numbers.sort_values(kind="stable").index], f"have a structure and a {by}"
        rule = f"the {GENBENCH_SIZE:,} with the lowest {by}"
    lacking = GENBENCH_SIZE - len(there)
    if lacking > 0:
        without = len(table) - len(there)
        raise ValueError(
            f"{len(there):,} crystals {lacks} ({without:,} rows do not), and GenBench asks for "
            f"exactly {GENBENCH_SIZE:,}: generate {lacking:,} more"
        )
    if len(there) == GENBENCH_SIZE:
        rule = "all of them"
    return CandidateTable(there.iloc[:GENBENCH_SIZE].reset_index(drop=True)), rule


# -- Matbench Discovery -----------------------------------------------------------------------


def export_matbench_discovery(
    source: str | Path,
    out: str | Path,
    *,
    column: str | None = None,
    hull: str | Path | None = None,
    name: str = "crysjepa",
    date: str | None = None,
) -> Exported:
    """Write a submission to Matbench Discovery: formation energies of WBM's crystals, and the model's YAML.

    ``models/crysjepa/NAME/DATE-discovery.csv.gz`` has the columns ``material_id`` and ``e_form_per_atom``
    (eV/atom), ``models/crysjepa/NAME.yml`` what is known of the model; what is not known is ``FILL_IN``.

    Parameters
    ----------
    column
        The predicted formation energies, on the Materials Project's scale of 2020. ``score`` of ``screen``
        and ``e_above_hull`` are above a hull, whose height at the composition is added. It has to be named:
        a table of WBM may hold DFT's own energies.
    hull
        The hull that these are above; by default that of the ranking, or the bundled one.
    name
        The model's key: small letters, digits, dots and hyphens.
    date
        Of the files, YYYY-MM-DD; by default today.

    Raises
    ------
    ValueError
        Where no row has an id of WBM and a number in the column, for a name or a date of another form, and
        for scores of a ranker that are no energies.
    """
    date = date or datetime.now(UTC).date().isoformat()
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise ValueError(f"a date is YYYY-MM-DD, not {date!r}")
    if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", name):
        raise ValueError(f"a model's key has small letters, digits, dots and hyphens, unlike {name!r}")
    if column is None:
        raise ValueError("say which column holds the predictions (--column): a table may hold DFT's energies")
    table = read_given(source).table
    said = file_metadata(Path(source)) if Path(source).is_file() else {}
    if column == "score" and (ranker := said.get("ranker")) not in _ENERGIES:
        raise ValueError(f"scores of {ranker or 'an unknown ranker'} are no energies: screen by jepa-hull")
    if hull is None and column == "score" and said.get("hull") != NAME:
        raise ValueError(f"the scores are above the hull {said.get('hull')}: name it (--hull)")
    energies = _formation_energies(table, column, hull)
    foreign = [i for i in table.ids if not _WBM_ID.fullmatch(i)]
    known = {i: e for i, e in energies.items() if _WBM_ID.fullmatch(i)}
    if not known:
        example = foreign[0] if foreign else "none"
        raise ValueError(
            f"no row has an id of WBM (such as wbm-1-1; here: {example}) and a number in {column!r}"
        )
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("material_id", "e_form_per_atom"))
    rows.writerows((i, f"{e:.6f}") for i, e in sorted(known.items(), key=lambda item: _natural(item[0])))
    folder = Path(out) / "models" / "crysjepa"
    predictions, card = folder / name / f"{date}-discovery.csv.gz", folder / f"{name}.yml"
    predictions.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(predictions, gzip.compress(text.getvalue().encode(), mtime=0))
    yaml = _card(name, date)
    write_text(card, yaml)
    to_fill = [
        line.split(":", 1)[0].strip(" -") + f" (line {number})"
        for number, line in enumerate(yaml.splitlines(), start=1)
        if FILL_IN in line
    ]
    notes = _left_out(table, foreign, len(known), column)
    return Exported(len(known), (predictions, card), tuple(to_fill), notes)


def _left_out(table: CandidateTable, foreign: list[str], num: int, column: str) -> tuple[str, ...]:
    """What is not among the ``num`` predictions, in words."""
    notes = []
    if foreign:
        notes.append(f"{len(foreign):,} rows have an id that is not WBM's, such as {foreign[0]}: left out")
    if lacking := len(table) - len(foreign) - num:
        notes.append(
            f"{lacking:,} rows of WBM have no number in {column!r}: left out, counted as unstable there"
        )
    if num < WBM_SIZE:
        notes.append(f"{WBM_SIZE - num:,} of WBM's {WBM_SIZE:,} crystals have no prediction here")
    return tuple(notes)


def _formation_energies(table: CandidateTable, column: str, hull: str | Path | None) -> dict[str, float]:
    if column not in table:
        names = ", ".join(map(str, table.frame.columns))
        raise ValueError(f"no column {column!r} with predicted energies: there are {names}")
    values = dict(zip(table.ids, table.column(column), strict=True))
    found = {i: float(v) for i, v in values.items() if v is not None and np.isfinite(v)}
    if not _ABOVE_HULL.fullmatch(column):
        return found
    crystals = table.crystals([i for i in table.ids if i in found])
    above = LowerHull(known_hull() if hull is None else load_hull(hull))
    heights = dict(zip(crystals.ids, above.heights(element_fractions(crystals))[0].tolist(), strict=True))
    return {i: found[i] + heights[i] for i in heights if np.isfinite(heights[i])}


def _natural(id_: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id_.split("-")[1:])


def _card(name: str, date: str) -> str:
    """The model's YAML, by the board's schema (tests/model-schema.yml at 2c7f9fc4) of what is known."""
    from crysjepa.jepa.crys_jepa import CrysJepa

    weights = sum(p.numel() for p in CrysJepa.load().model.parameters())
    packages = "\n".join(f"  - {p}=={version(p)}" for p in ("torch", "numpy", "pymatgen"))
    return f"""\
model_name: Crys-JEPA (crysjepa)
model_key: {name}
model_version: {__version__}
dates:
  benchmark_added: '{date}'
  paper_published: '{FILL_IN}'
lifecycle: active
authors:
- name: {FILL_IN}
  affiliation: {FILL_IN}
  email: {FILL_IN}
repo: {FILL_IN}
doi: {FILL_IN}
paper: {FILL_IN}
pr_url: {FILL_IN}
checkpoint_url: {FILL_IN}
license:
  code: MIT
  code_url: {FILL_IN}
  checkpoint: {FILL_IN}
  checkpoint_url: {FILL_IN}
environment:
  dependencies:
  - crysjepa=={__version__}
{packages}
  python_version: '3.11'
openness: OSOD
architecture_types: [transformer]
train_task: S2RE
test_task: IS2E
targets: E
training_sets: [{FILL_IN}]
model_params: {weights}
notes:
  description: |
    The invariant encoder of Crys-JEPA with linear read-outs of formation energies; the energy above the hull
    is that of the prediction above the board's hull. Nothing is relaxed.
  training: |
    Crystals of the Materials Project with DFT energies, and variants of them with energies of CHGNet and
    SevenNet. {FILL_IN}: what is not in the weights that ship.
metrics:
  phonons: not applicable
  geo_opt: not applicable
  discovery:
    pred_file:
      name: models/crysjepa/{name}/{date}-discovery.csv.gz
      url: {FILL_IN}
"""
