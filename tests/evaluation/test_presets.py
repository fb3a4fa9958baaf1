"""The presets, and what they change in the verdicts."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.criteria import Rules, batches_of, evaluate_table
from crysjepa.evaluation.diversity import diversity, radioactive, troublesome
from crysjepa.evaluation.protocol import PRESETS, Protocol, preset
from crysjepa.evaluation.rates import batch_metrics, bootstrap_intervals, crystal_metrics

CSCL = [[0, 0, 0], [0.5, 0.5, 0.5]]
HULL = Hull.from_entries(["NaCl", "KCl"], [-1.0, -1.2], scale="test", source="test")


def crystal(id_: str, numbers: list[int], a: float = 4.0) -> Crystals:
    return Crystals(numbers, np.array(CSCL), np.eye(3) * a, [2], (id_,))


def salts(count: int) -> CandidateTable:
    """Caesium chlorides of NaCl and KCl in turn, on the hull, their rows in no order."""
    made = [crystal(f"c-{i}", [11 if i % 2 else 19, 17]) for i in range(count)]
    shuffled = np.random.default_rng(0).permutation(count)
    table = CandidateTable.from_crystals(Crystals.concatenate([made[i] for i in shuffled]))
    energies = {f"c-{i}": -1.0 if i % 2 else -1.2 for i in range(count)}
    return table.with_column("formation_energy_per_atom", energies, "Float64")


def judged(table: CandidateTable, **rules: object) -> CandidateTable:
    return evaluate_table(
        table,
        reference=crystal("mp-1", [55, 17]),
        hull=HULL,
        rules=Rules(**rules),  # type: ignore[arg-type]
    )


# -- presets ---------------------------------------------------------------------------------


def test_the_paper_is_followed_to_the_letter() -> None:
    paper = preset("paper")
    relaxation = paper.relaxation
    assert (relaxation.optimizer, relaxation.fmax, relaxation.max_steps) == ("fire", 0.05, 500)
    assert (paper.force_field, paper.batch_size, paper.num_batches) == ("mattersim", 1000, 10)
    assert not paper.converged_only and paper.e_above_hull_max == 0.1 and paper.composition_rule == "paper"
    assert (paper.ltol, paper.stol, paper.angle_tol) == (0.2, 0.3, 5.0)


def test_strict_is_stricter_and_every_preset_says_its_name() -> None:
    strict = preset("strict")
    assert strict.converged_only and strict.batch_size is None and strict.min_hull_entries == 1
    assert {name: p.preset for name, p in PRESETS.items()} == {name: name for name in PRESETS}
    assert PRESETS["default"] == Protocol()
    with pytest.raises(ValueError, match="default, paper, strict"):
        preset("lenient")


# -- uniqueness within batches ---------------------------------------------------------------


def test_batches_follow_the_natural_order_of_ids_whatever_the_rows() -> None:
    ids = [f"c-{i}" for i in range(7)]
    found = batches_of(ids[::-1], 3)
    assert [found[i] for i in ids] == [0, 0, 0, 1, 1, 1, 2]
    assert set(batches_of(ids, None).values()) == {0}


def test_uniqueness_within_batches_counts_each_batchs_first() -> None:
    table = salts(6)
    whole, batched = judged(table), judged(table, batch_size=3)
    unique = dict(zip(whole.ids, whole.column("unique"), strict=True))
    assert [i for i in sorted(unique) if unique[i]] == ["c-0", "c-1"]
    unique = dict(zip(batched.ids, batched.column("unique"), strict=True))
    assert [i for i in sorted(unique) if unique[i]] == ["c-0", "c-1", "c-3", "c-4"]
    assert crystal_metrics(whole)["sun"] == pytest.approx(2 / 6)
    assert crystal_metrics(batched)["sun"] == pytest.approx(4 / 6)


def test_mean_and_deviation_are_over_complete_batches() -> None:
    table = judged(salts(8), batch_size=3)
    valid = {i: i not in ("c-0", "c-1", "c-3") for i in table.ids}
    found = batch_metrics(table.with_column("valid", valid, "boolean"), 3, 10)
    assert (found["num_batches"], found["left_over"], found["wanted"]) == (2, 2, 10)
    assert found["rates"]["valid"]["values"] == pytest.approx([1 / 3, 2 / 3])
    assert found["rates"]["valid"]["mean"] == pytest.approx(0.5)
    assert found["rates"]["valid"]["std"] == pytest.approx(statistics.stdev([1 / 3, 2 / 3]))
    assert found["rates"]["converged"] is None
    few = batch_metrics(judged(salts(2), batch_size=3), 3)
    assert (few["num_batches"], few["left_over"]) == (1, 0)
    assert few["rates"]["unique"]["mean"] == 1.0 and few["rates"]["unique"]["std"] is None
    none = batch_metrics(judged(salts(0), batch_size=3), 3)
    assert none["num_batches"] == 0 and none["rates"]["valid"] is None


# -- converged only, fine-tuning set, composition rules --------------------------------------


def test_converged_only_fails_the_others() -> None:
    table = salts(4).with_column(
        "converged", {"c-0": False, "c-1": True, "c-2": True, "c-3": None}, "boolean"
    )
    kept, strict = judged(table), judged(table, converged_only=True)
    assert kept.column("unique", ["c-0", "c-2"]) == [True, False]
    assert strict.column("status", ["c-0"]) == ["failed"] and strict.column("stage", ["c-0"]) == ["relax"]
    assert "did not converge" in strict.column("reason", ["c-0"])[0]
    assert strict.column("stable", ["c-0"]) == [None]
    assert strict.column("unique", ["c-2"]) == [True], "nothing is a duplicate of what failed"
    assert crystal_metrics(kept)["stable"] == 1.0 and crystal_metrics(strict)["stable"] == 0.75


def test_what_matches_the_finetuning_set_is_not_novel() -> None:
    table = salts(2)
    found = evaluate_table(
        table, reference=crystal("mp-1", [19, 17]), finetuned_on=crystal("own-7", [11, 17]), hull=HULL
    )
    assert dict(zip(found.ids, found.column("novel"), strict=True)) == {"c-0": False, "c-1": False}
    assert found.column("matches", ["c-0", "c-1"]) == ["mp-1", None]
    assert found.column("matches_finetuning", ["c-0", "c-1"]) == [None, "own-7"]
    assert found.column("reason", ["c-1"]) == ["matches own-7 of the fine-tuning set"]
    assert found.column("reason", ["c-0"]) == ["matches mp-1"]


def test_by_hash_is_another_matching() -> None:
    plain, hashed = judged(salts(4)), judged(salts(4), matching="hash")
    assert plain.column("unique") == hashed.column("unique")
    assert plain.column("novel") == hashed.column("novel")


def test_composition_rules_by_name() -> None:
    """smact's current rule knows Cu in more states than the frozen one: they are two rules."""
    from pymatgen.core import Composition
    from smact.screening import smact_validity

    compositions = {"NaCl": [11, 17], "NaNe": [11, 10], "AuO": [79, 8], "ClO": [17, 8], "AgO": [47, 8]}
    crystals = Crystals.concatenate([crystal(name, z) for name, z in compositions.items()])
    paper, current = (composition_validity(crystals, rule=rule) for rule in ("paper", "smact"))
    for name in compositions:
        expected = smact_validity(Composition(name), oxidation_states_set="smact14")
        assert (paper[name] is None) == expected, name
        assert (current[name] is None) == smact_validity(Composition(name)), name
    with pytest.raises(ValueError, match="paper, smact"):
        composition_validity(crystals, rule="mine")


# -- intervals, spread -----------------------------------------------------------------------


def test_bootstrap_is_what_resampling_gives_and_always_the_same() -> None:
    rows = 200
    table = CandidateTable.from_crystals(Crystals.empty(), {f"c-{i}": "unread" for i in range(rows)})
    hits = np.random.default_rng(1).random(rows) < 0.3
    table = table.with_column("valid", dict(zip(table.ids, hits.tolist(), strict=True)), "boolean")
    found = bootstrap_intervals(table)
    assert found == bootstrap_intervals(CandidateTable(table.frame.iloc[::-1].reset_index(drop=True)))
    drawn = np.random.default_rng(2).choice(hits, size=(4000, rows)).mean(axis=1)
    assert found["valid"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.011)
    assert found["sun"] is None


def test_stability_at_0_stands_beside_the_limit() -> None:
    table = salts(2).with_column("formation_energy_per_atom", {"c-0": -1.2, "c-1": -0.95}, "Float64")
    metrics = crystal_metrics(judged(table))
    assert (metrics["stable"], metrics["stable_at_0"]) == (1.0, 0.5)
    assert (metrics["sun"], metrics["sun_at_0"], metrics["vsun_at_0"]) == (1.0, 0.5, 0.5)


def test_spread_and_elements_to_avoid() -> None:
    made = [crystal(f"c-{i}", z) for i, z in enumerate([[11, 17], [11, 17], [82, 8], [92, 8], [78, 8]])]
    found = diversity(judged(CandidateTable.from_crystals(Crystals.concatenate(made)).with_column(
        "formation_energy_per_atom", {}, "Float64")))  # fmt: skip
    assert found["chemical_systems"]["num"] == 4
    shares = np.array([2, 1, 1, 1]) / 5
    assert found["chemical_systems"]["effective"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["space_groups"]["num"] == 1 and found["space_groups"]["effective"] == pytest.approx(1.0)
    assert [found[k]["share"] for k in ("rare", "toxic", "radioactive")] == pytest.approx([0.2, 0.2, 0.2])
    assert troublesome("O-U") == {"rare": False, "toxic": False, "radioactive": True}
    assert {"Tc", "Pm", "U", "Po"} <= radioactive() and not {"Bi", "Pb", "K"} & radioactive()
    nothing = diversity(judged(salts(0)))
    assert nothing["chemical_systems"] == {"num": 0, "effective": None, "interval": None}
    assert nothing["toxic"]["share"] is None
