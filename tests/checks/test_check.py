"""The columns of a table: nothing lost, a reason for what is missing, the same in any worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from crysjepa.checks.check import COLUMNS, check_crystals, examine
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.force_fields.base import Prediction
from crysjepa.relaxation.force_fields.registry import get_force_field

pytestmark = pytest.mark.slow

pytest.importorskip("phonopy")
EMT = "ase.calculators.emt:EMT"


def table() -> CandidateTable:
    mixed = bulk("Cu", "fcc", a=3.57, cubic=True)
    mixed.symbols[0] = "Ni"
    atoms = {
        "fcc": bulk("Cu", "fcc", a=3.6),
        "bcc": bulk("Cu", "bcc", a=2.87),
        "mixed": mixed,
        "unknown": bulk("NaCl", "rocksalt", a=5.6),
        "rejected": bulk("Al", "fcc", a=4.0),
    }
    found = CandidateTable.from_crystals(
        Crystals.from_atoms(list(atoms.values()), list(atoms)), {"lost": "torn"}
    )
    return found.decide("novelty", {"rejected": "known"}, Status.REJECTED)


REFERENCE = Crystals.from_atoms([bulk("Cu", "fcc", a=3.6), bulk("Ni", "fcc", a=3.5)], ["cu", "ni"])


@pytest.fixture(scope="module")
def checked() -> CandidateTable:
    return check_crystals(table(), reference=REFERENCE, force_field=EMT, processes=2)


def of(checked: CandidateTable, id_: str) -> dict[str, Any]:
    return {name: checked.column(name, [id_])[0] for name in COLUMNS}


def test_verdicts(checked: CandidateTable) -> None:
    fcc, bcc, mixed = of(checked, "fcc"), of(checked, "bcc"), of(checked, "mixed")
    assert fcc["dynamically_stable"] is fcc["elastically_stable"] is True
    assert 100 < fcc["bulk_modulus"] < 180 and fcc["sense_reason"] is None
    assert bcc["dynamically_stable"] is bcc["elastically_stable"] is False
    assert bcc["min_frequency"] < 0 and bcc["min_elastic_eigenvalue"] < 0 and bcc["bulk_modulus"] is None
    assert mixed["bonding"] == "alloy"
    assert mixed["ordered_version_of"] == "cu + ni" and mixed["merged_species"] == "Cu|Ni"
    assert fcc["bonding"] == "element" and fcc["ordered_version_of"] is None


def test_nothing_is_lost_or_decided(checked: CandidateTable) -> None:
    before = table()
    assert checked.ids == before.ids
    for name in ("status", "stage", "reason"):
        assert checked.column(name) == before.column(name)
    assert checked.crystals().content_hash() == before.crystals().content_hash()


def test_what_is_missing_has_a_reason(checked: CandidateTable) -> None:
    unknown = of(checked, "unknown")
    assert unknown["dynamically_stable"] is unknown["elastically_stable"] is None
    assert "force field" in unknown["sense_reason"]
    assert unknown["bonding"] == "charge-balanced"
    assert unknown["oxidation_states"] == "Na 1+, Cl 1−" and unknown["unusual_oxidation_states"] is None
    assert set(of(checked, "rejected").values()) == set(of(checked, "lost").values()) == {None}


def test_the_same_in_any_process(checked: CandidateTable) -> None:
    force_field = get_force_field(EMT)
    for id_ in ("fcc", "bcc", "mixed"):
        found = examine(table().crystals([id_]), force_field)
        assert {k: v for k, v in of(checked, id_).items() if k in found.values} == found.values


def test_one_that_takes_too_long_has_a_reason() -> None:
    one = CandidateTable.from_crystals(table().crystals(["mixed"]))
    found = of(check_crystals(one, force_field=EMT, processes=1, seconds=1e-3), "mixed")
    assert "took longer than" in found["sense_reason"]
    assert found["bonding"] == "alloy" and found["ordered_version_of"] is None  # without a reference


class Stopped(Exception):
    """As if the process had ended."""


def test_a_check_that_was_stopped_keeps_what_is_done(checked: CandidateTable, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    how = {"reference": REFERENCE, "force_field": EMT, "processes": 1, "shards": tmp_path}
    with pytest.raises(Stopped):
        check_crystals(table(), progress=stop, **how)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert len(kept) == 2
    found = check_crystals(table(), progress=lambda *call: calls.append(call), **how)
    assert calls[0] == ("phonons and elasticity", 2, 4)  # those that were done are not done again
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    for name in COLUMNS:
        assert found.column(name) == checked.column(name)


def test_what_was_kept_counts_for_the_same_question_alone(tmp_path: Path) -> None:
    one = CandidateTable.from_crystals(table().crystals(["fcc"]))
    how = {"force_field": EMT, "processes": 1, "shards": tmp_path}
    check_crystals(one, phonons=False, **how)
    (torn,) = tmp_path.iterdir()
    assert of(check_crystals(one, **how), "fcc")["dynamically_stable"]
    torn.write_text("{")  # a file that cannot be read is none
    assert of(check_crystals(one, phonons=False, **how), "fcc")["elastically_stable"]


def test_formulas_alone_load_no_force_field() -> None:
    found = check_crystals(table(), reference=REFERENCE, force_field=EMT, phonons=False, elastic=False)
    assert of(found, "mixed")["ordered_version_of"] == "cu + ni"
    assert of(found, "fcc")["dynamically_stable"] is None and of(found, "fcc")["sense_reason"] is None


def test_an_exception_costs_no_other_check() -> None:
    class Fragile:
        """Fails for supercells."""

        name, version, scale, max_atomic_number = "fragile", "1", "unknown", 118

        def __init__(self) -> None:
            self.emt = get_force_field(EMT)

        def evaluate(self, atoms: list[Atoms]) -> list[Prediction | str]:
            if len(atoms[0]) > 30:
                raise FloatingPointError("too many")
            return self.emt.evaluate(atoms)

    found = examine(table().crystals(["fcc"]), Fragile())
    assert found.values["elastically_stable"] and "dynamically_stable" not in found.values
    assert found.reasons == ["phonons: FloatingPointError: too many"]


def test_an_empty_table_and_an_unknown_force_field() -> None:
    empty = check_crystals(CandidateTable.from_crystals(Crystals.empty()), force_field=EMT)
    assert len(empty) == 0 and all(name in empty for name in COLUMNS)
    with pytest.raises(ValueError, match="no force field"):
        check_crystals(table(), force_field="nonsense")


def test_silicon_by_chgnet() -> None:
    found = examine(Crystals.from_atoms([bulk("Si", "diamond", a=5.43)], ["si"]), get_force_field("chgnet"))
    assert found.values["dynamically_stable"] and found.values["elastically_stable"]
    assert np.isclose(found.values["bulk_modulus"], 90, atol=25) and not found.reasons
