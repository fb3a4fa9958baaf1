"""Dynamical and chemical sense of the crystals of a table, as columns; nothing is decided by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from crysjepa.checks.chemistry import balance, bonding
from crysjepa.checks.found import Found, shard_path
from crysjepa.checks.orderings import KnownOrderings
from crysjepa.checks.phonons import check_phonopy, phonons
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.evaluation.columns import set_column
from crysjepa.properties.elastic import elasticity
from crysjepa.properties.rest import AtRest, at_rest
from crysjepa.relaxation.force_fields.base import ForceField
from crysjepa.relaxation.force_fields.registry import force_field_info, get_for_worker
from crysjepa.relaxation.relax import default_workers
from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.runtime.executors import device_for, open_pool
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.threads import ONE_THREAD
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit
from crysjepa.runtime.worker_pool import Done

COLUMNS = {
    "min_frequency_gamma": "Float64",
    "min_frequency": "Float64",
    "dynamically_stable": "boolean",
    "min_elastic_eigenvalue": "Float64",
    "elastically_stable": "boolean",
    "bulk_modulus": "Float64",
    "bonding": "string",
    "oxidation_states": "string",
    "unusual_oxidation_states": "string",
    "ordered_version_of": "string",
    "merged_species": "string",
    "sense_reason": "string",
}
"""What :func:`check_crystals` adds, and the types."""
MATCHING_LIMIT = 60.0
"""Seconds to look for known crystals of which one is an ordered version."""


def check_crystals(
    table: CandidateTable,
    *,
    reference: Crystals | None = None,
    force_field: str = "chgnet",
    phonons: bool = True,
    elastic: bool = True,
    seconds: float | None = 1800.0,
    shards: Path | None = None,
    **how: Unpack[ExecutionOptions],
) -> CandidateTable:
    """Phonons, elastic constants, bonding and orderings of every crystal that is ``ok``.

    Parameters
    ----------
    reference
        Known crystals for ``ordered_version_of``; without them it stays null.
    force_field
        By which a crystal is relaxed tightly, displaced and strained: best the one that relaxed it. See
        :func:`crysjepa.relaxation.force_fields.registry.get_force_field`.
    phonons, elastic
        What the force field is asked for. With neither, it is not loaded.
    seconds
        For the force field's part of each crystal; None waits for ever.
    shards
        A folder for what the force field says of each crystal. What is found there, of the same crystal,
        force field, device and settings, is not computed again.
    how
        See :class:`~crysjepa.runtime.execution.Execution`: workers are on one thread each, with the force
        field loaded once; by default as many as relax.

    Returns
    -------
    CandidateTable
        With the columns of :data:`COLUMNS`: frequencies in THz, imaginary ones negative
        (:mod:`crysjepa.checks.phonons`); elastic eigenvalue and bulk modulus in GPa
        (:mod:`crysjepa.properties.elastic`); ``bonding`` and states (:mod:`crysjepa.checks.chemistry`);
        ``ordered_version_of``, ids joined by `` + ``, and ``merged_species``
        (:mod:`crysjepa.checks.orderings`); ``sense_reason``, why something is missing and what else there is
        to say. Structures, states and the other columns are as they were; rows that are not ``ok`` are null
        in the new ones. The same on any number of processes.

    Raises PhonopyMissing, an ImportError that names the extra, if phonons are asked for and phonopy is
    absent; ValueError or ImportError for an unknown force field, or one whose package is absent; RuntimeError
    when worker processes cannot be set up.
    """
    run = Execution(**how)
    device, progress = device_for("check", run.found_device), run.progress
    if phonons:
        check_phonopy()
    crystals = table.crystals(table.ok_ids)
    found = {id_: Found() for id_ in crystals.ids}
    if phonons or elastic:
        info = force_field_info(force_field)
        asked = (force_field, device, phonons, elastic)
        paths: dict[str, Path | None] = {
            c.ids[0]: shards and shard_path(shards, c, (*asked, info.version, seconds)) for c in crystals
        }
        _by_force_field(crystals, asked, run.processes, seconds, found, paths, progress)
    _by_formula(crystals, found)
    if reference is not None:
        _by_matching(crystals, KnownOrderings(reference), found, progress)
    for one in found.values():
        one.values["sense_reason"] = "; ".join(one.reasons) or None
    for column, dtype in COLUMNS.items():
        table = set_column(table, column, {i: f.values.get(column) for i, f in found.items()}, dtype)
    return table


def with_bonding(table: CandidateTable, ids: Sequence[str]) -> CandidateTable:
    """``bonding``, ``oxidation_states`` and ``unusual_oxidation_states`` of the crystals of these ids.

    The columns are those of :func:`check_crystals`; null in all other rows. Milliseconds a formula.
    """
    found = {id_: Found() for id_ in ids}
    _by_formula(table.crystals(ids), found)
    for column in ("bonding", "oxidation_states", "unusual_oxidation_states"):
        values = {i: f.values.get(column) for i, f in found.items()}
        table = set_column(table, column, values, COLUMNS[column])
    return table


def _by_force_field(
    crystals: Crystals,
    asked: tuple[str, str, bool, bool],
    processes: int | None,
    seconds: float | None,
    found: dict[str, Found],
    paths: Mapping[str, Path | None],
    progress: StageProgress | None,
) -> None:
    """Into ``found``, from the files in ``paths`` where they are there; what is new is written to them."""
    report = progress or (lambda stage, done, total: None)
    kept = {id_: there for id_, path in paths.items() if (there := Found.read(path)) is not None}
    found |= kept
    todo = [i for i, id_ in enumerate(crystals.ids) if id_ not in kept]
    before = len(crystals) - len(todo)
    report("phonons and elasticity", before, len(crystals))
    if not todo:
        return
    workers = processes or default_workers(asked[1], "check")
    with open_pool("check", _set_up, asked, min(workers, len(todo)), ONE_THREAD) as pool:
        for i in sorted(todo, key=lambda i: (-int(crystals.num_atoms[i]), i)):  # the largest first
            pool.submit(i, crystals[i], seconds, tries=2)
        for count, (i, done) in enumerate(pool.results(), start=before + 1):
            one = done.value if done.kind == "done" else Found(reasons=[_trouble(done)])
            id_ = crystals.ids[i]
            found[id_], path = one, paths[id_]
            if path is not None:
                one.write(path)
            report("phonons and elasticity", count, len(crystals))


def _trouble(done: Done) -> str:
    return f"the force field's {done.trouble} on this crystal" if done.kind == "died" else done.trouble


def _set_up(name: str, device: str, want_phonons: bool, want_elastic: bool) -> Callable[[Crystals], Found]:
    """In a worker: load a force field and look at it once; then check crystals with it, on one thread."""
    loaded = get_for_worker(name, device)
    return lambda crystal: examine(crystal, loaded, want_phonons=want_phonons, want_elastic=want_elastic)


def examine(
    crystal: Crystals, force_field: ForceField, *, want_phonons: bool = True, want_elastic: bool = True
) -> Found:
    """What a force field says of one crystal. Phonons that fail cost no elastic constants, or the reverse."""
    found = Found()
    rest = at_rest(crystal, force_field)
    if isinstance(rest, str):
        found.say("phonons and elasticity", rest)
        return found
    found.say("rest", rest.remark)
    if want_phonons:
        _guarded("phonons", _phonons, rest, force_field, found)
    if want_elastic:
        _guarded("elasticity", _elasticity, rest, force_field, found)
    return found


def _guarded(
    what: str,
    examine: Callable[[AtRest, ForceField, Found], None],
    rest: AtRest,
    force_field: ForceField,
    found: Found,
) -> None:
    try:
        examine(rest, force_field, found)
    except Exception as error:  # noqa: BLE001 - phonopy and pymatgen raise anything; recorded for this crystal
        found.say(what, describe_error(error))


def _phonons(rest: AtRest, force_field: ForceField, found: Found) -> None:
    got = phonons(rest, force_field)
    if isinstance(got, str):
        found.say("phonons", got)
        return
    found.values["min_frequency_gamma"] = got.min_frequency_gamma
    found.values["min_frequency"] = got.min_frequency
    found.values["dynamically_stable"] = got.stable
    found.say("phonons", got.remark)


def _elasticity(rest: AtRest, force_field: ForceField, found: Found) -> None:
    got = elasticity(rest.primitive, force_field)
    if isinstance(got, str):
        found.say("elasticity", got)
        return
    found.values["min_elastic_eigenvalue"] = got.min_eigenvalue
    found.values["elastically_stable"] = got.stable
    found.values["bulk_modulus"] = got.bulk_modulus


def _by_formula(crystals: Crystals, found: dict[str, Found]) -> None:
    for id_, formula in zip(crystals.ids, reduced_formulas(crystals), strict=True):
        try:
            balanced, values = balance(formula), found[id_].values
            values["bonding"] = str(bonding(formula))
            values["oxidation_states"] = balanced.text
            values["unusual_oxidation_states"] = balanced.unusual_text
        except Exception as error:  # noqa: BLE001 - an element beyond the tables; recorded for this crystal
            found[id_].say("bonding", describe_error(error))


def _by_matching(
    crystals: Crystals, known: KnownOrderings, found: dict[str, Found], progress: StageProgress | None
) -> None:
    for done, crystal in enumerate(crystals, start=1):
        one = found[crystal.ids[0]]
        try:
            with time_limit(MATCHING_LIMIT):
                version = known.ordered_version(crystal)
        except TimeLimitExceeded:
            one.say("orderings", f"took longer than {MATCHING_LIMIT:g} s")
        except Exception as error:  # noqa: BLE001 - pymatgen can fail in many ways; recorded for this crystal
            one.say("orderings", describe_error(error))
        else:
            if version is not None:
                one.values["ordered_version_of"] = " + ".join(version.of)
                one.values["merged_species"] = version.merged
        if progress is not None:
            progress("ordered versions", done, len(crystals))
