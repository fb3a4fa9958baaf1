"""GenBench's metrics by name: rates by counting, diversity and distances against their definitions."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.criteria import evaluate_table
from crysjepa.evaluation.genbench import distances_between, diversity_of, genbench_metrics
from crysjepa.evaluation.protocol import Protocol, preset
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.report.genbench import genbench_tables

HULL = Hull.from_entries(["NaCl", "KCl", "NaCl3"], [-1.0, -1.2, -0.5], scale="test", source="test")


def rocksalt(cation: str, a: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, "Cl"], [[0] * 3, [0.5] * 3])


def sample() -> CandidateTable:
    structures = {
        "c-0": rocksalt("Na", 5.64),  # on the hull
        "c-1": rocksalt("Na", 5.70),  # the same again
        "c-2": rocksalt("K", 6.29),  # 0.05 above
        "c-3": Structure(Lattice.cubic(5), ["Na", "Cl", "Cl", "Cl"], np.eye(4)[:, :3] * 0.5),  # no charges
        "c-4": Structure(Lattice.cubic(8), ["Na", "Cl"], [[0] * 3, [0.15, 0, 0]]),  # too near
        "c-5": rocksalt("K", 3.0),  # 0.5 above
    }
    crystals = Crystals.from_structures(list(structures.values()), list(structures))
    table = CandidateTable.from_crystals(crystals)
    energies = {"c-0": -1.0, "c-1": -1.0, "c-2": -1.15, "c-3": -0.5, "c-4": -1.0, "c-5": -0.7}
    return table.with_column("formation_energy_per_atom", energies, "Float64")


@pytest.fixture(scope="module")
def judged() -> CandidateTable:
    reference = Crystals.from_structures([rocksalt("Cs", 7.0)], ["known"])
    return evaluate_table(sample(), reference=reference, hull=HULL, rules=preset("genbench").rules)


def test_every_crystal_has_its_reason(judged: CandidateTable) -> None:
    assert judged.column("valid") == [True, True, True, False, False, False]
    reasons = dict(zip(judged.ids, judged.column("reason"), strict=True))
    assert "charge" in reasons["c-3"] and "apart" in reasons["c-4"] and "apart" in reasons["c-5"]


def test_rates_are_shares_of_all_and_need_validity(judged: CandidateTable) -> None:
    known = judged.crystals(judged.ids[:3])
    found = genbench_metrics(judged, known, symprec=0.01)
    shares = {name: round(6 * rate["share"]) for name, rate in found["rates"].items()}
    assert shares == {
        "overall_valid": 3,
        "charge_neutral": 5,
        "distance_valid": 4,
        "plausibility_valid": 6,
        "unique": 2,
        "novel": 3,
        "stable": 2,
        "metastable": 3,
        "sun": 1,
        "meta_sun": 2,
    }
    assert found["mean_e_above_hull"] == pytest.approx(0.05 / 3)
    assert {"frechet_distance", "ensemble"} <= set(found["missing"])
    tables = genbench_tables(found)
    assert tables[0].rows[8][:2] == ("SUN", "16.7 %")
    assert any("js distance: space group" in row[0].replace("_", " ") for row in tables[1].rows)


def test_charges_that_were_not_asked_are_not_neutral() -> None:
    """Of a crystal with sites on one another nothing is asked."""
    sites = [[0] * 3, [0.5] * 3, [0.25] * 3, [0.26, 0.25, 0.25]]
    crystals = Crystals.from_structures([Structure(Lattice.cubic(6), ["Na", "F", "O", "O"], sites)], ["bad"])
    reference = Crystals.from_structures([rocksalt("Cs", 7.0)], ["known"])
    table = evaluate_table(
        CandidateTable.from_crystals(crystals), reference=reference, rules=preset("genbench").rules
    )
    found = genbench_metrics(table, reference, symprec=0.01)
    assert found["rates"]["charge_neutral"]["share"] == 0 == found["rates"]["overall_valid"]["share"]


def test_what_was_not_judged_is_none_and_a_set_without_valid_crystals_is_fine() -> None:
    judged = evaluate_table(sample(), rules=preset("genbench").rules)
    found = genbench_metrics(judged, judged.crystals(judged.ids[:1]), symprec=0.01)
    assert found["rates"]["novel"] is None and found["rates"]["sun"] is None and found["rates"]["unique"]
    bad = CandidateTable(judged.frame[~judged.frame["valid"].astype(bool)].reset_index(drop=True))
    found = genbench_metrics(bad, judged.crystals(judged.ids[:1]), symprec=0.01)
    assert found["diversity"] is None and found["rates"]["overall_valid"]["share"] == 0.0
    assert genbench_tables(None) == [] and genbench_tables(found)


def test_vendi_scores_count_what_is_there() -> None:
    crystals = Crystals.from_structures([rocksalt("Na", 5.6), rocksalt("K", 6.3)])
    found = diversity_of(crystals, symprec=0.01)
    assert found["space_group"]["vendi_score"] == pytest.approx(1.0)
    assert found["space_group"]["coverage"] == pytest.approx(1 / 230)
    assert found["site_number"]["vendi_score"] == pytest.approx(1.0)
    # half of the atoms Cl, a quarter Na, a quarter K
    assert found["element"]["vendi_score"] == pytest.approx(2**1.5)
    assert found["physical"]["a"] == pytest.approx(np.log(2))


def test_a_set_has_no_distance_from_itself_and_all_from_another() -> None:
    one = Crystals.from_structures([rocksalt("Na", 5.6)])
    cubic = Structure(Lattice.tetragonal(3, 5), ["Fe", "Cu"], [[0] * 3, [0.5] * 3])
    other = Crystals.from_structures([cubic])
    same, apart = (distances_between(one, c, symprec=0.01) for c in (one, other))
    assert same["js_distance"]["average"] == pytest.approx(0.0, abs=1e-7)
    assert same["mmd"]["average"] == pytest.approx(0.0, abs=1e-12)
    far = np.sqrt(np.log(2))  # of distributions that share nothing
    for name in ("space_group", "crystal_system", "composition_counts", "composition"):
        assert apart["js_distance"][name] == pytest.approx(far)
    assert apart["mmd"]["volume"] == pytest.approx(2.0)


def test_the_preset_writes_the_metrics_and_the_page(tmp_path: Path) -> None:
    known = tmp_path / "known.parquet"
    CandidateTable.from_crystals(Crystals.from_structures([rocksalt("Cs", 7.0)], ["c"])).write(known)
    protocol = preset("genbench").model_copy(update={"relax": False})
    metrics = evaluate_crystals(sample(), tmp_path / "out", reference=known, protocol=protocol)
    rates = metrics["genbench"]["rates"]
    assert rates["overall_valid"]["share"] == 0.5 and rates["stable"] is None
    assert metrics["genbench"]["distribution"]["reference_size"] == 1
    assert "GenBench's rates" in html.unescape((tmp_path / "out" / "evaluation.html").read_text("utf-8"))
    plain = evaluate_crystals(sample(), tmp_path / "plain", reference=known, protocol=Protocol(relax=False))
    assert "genbench" not in plain
