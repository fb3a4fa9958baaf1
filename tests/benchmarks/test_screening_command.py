"""The whole command on a few hundred real crystals (the bundled ones), and what it must not do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from ranking.command import Options, relabel_sets, run_benchmark
from ranking.data import evenly, read_hull, read_known, read_wbm, split_valid, spread_by_size
from ranking.notes import verdict
from ranking.page import page
from ranking.relaxed import draw_sets, read_labels
from ranking.scoring import Bench, with_fitted_references
from ranking.store import Store
from ranking.timing import OWN, summarise

from conftest import TinyWorld
from crysjepa import datasets
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.registry import RankerContext, make_ranker
from ranking.fingerprints import Pooled, within_reach

# It loads CHGNet and starts processes, on machines with other work.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LENNARD_JONES = "ase.calculators.lj:LennardJones"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's files, from small bundled crystals."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "peers").mkdir()
    table = datasets.load("flla")
    frame = table.frame.assign(num_sites=[len(z) for z in table.frame["atomic_numbers"]])
    small = frame[frame["num_sites"] <= 6].reset_index(drop=True)
    large = frame[frame["num_sites"] > 20].iloc[:2]
    columns = ["id", "atomic_numbers", "frac_coords", "lattice", "num_sites"]
    energies = ["formation_energy_per_atom", "e_above_hull"]

    def write(part: pd.DataFrame, name: str, *more: str) -> None:
        part = part.astype({"id": object} | {e: float for e in energies})
        part[[*columns, *more]].to_parquet(folder / name)

    write(small.iloc[:140], "mp20_bt.parquet", *energies)
    write(pd.concat([small.iloc[120:180], large]), "mpts52.parquet", *energies)
    write(small.iloc[300:340], "wbm_dev.parquet", *energies)
    generated = small.iloc[340:352].assign(id=[f"diffcsp-{i}" for i in range(12)])
    generated.at[351, "frac_coords"] = np.zeros_like(generated.at[351, "frac_coords"])
    write(generated, "peers/diffcsp_mp20_first2000.parquet")
    hull = small.iloc[:200]
    formulas = table.crystals(list(hull["id"])).reduced_formulas()
    pd.DataFrame(
        {
            "id": hull["id"].astype(object),
            "composition": formulas,
            "formation_energy_per_atom": hull["formation_energy_per_atom"].astype(float),
        }
    ).to_parquet(folder / "mp20_hull.parquet")
    return folder


@pytest.fixture(scope="module")
def options(data: Path, tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A quick run with a tiny model and without a generator."""
    out = tmp_path_factory.mktemp("out")
    return Options(
        data=data,
        out=out / "run",
        labels=out / "labels.parquet",
        jepa=tiny.jepa,
        generator=out / "none.safetensors",
        quick=True,
        first=4,
    )


@pytest.fixture(scope="module")
def finished(options: Options) -> Options:
    """The same after its labels and its run."""
    relabel_sets(options)
    run_benchmark(options)
    return options


def results_of(options: Options) -> dict:
    return json.loads((options.out / "screening.json").read_text(encoding="utf-8"))


def test_the_reference_has_small_crystals_once(data: Path) -> None:
    known = read_known(data)
    assert len(known.crystals) == 180 == len(set(known.crystals.ids))
    assert known.crystals.num_atoms.max() <= 20
    assert np.isfinite(known.formation_energies).all() and len(known.e_above_hull) == 180


def test_samples_are_spread_over_sizes(data: Path) -> None:
    crystals = read_wbm(data).crystals
    rows = spread_by_size(crystals, 10)
    assert len(set(rows.tolist())) == 10
    assert abs(crystals.num_atoms[rows].mean() - crystals.num_atoms.mean()) < 0.5
    assert sorted(spread_by_size(crystals, 99).tolist()) == list(range(40))
    assert evenly(10, 3).tolist() == [0, 3, 6] and evenly(2, 5).tolist() == [0, 1]


def test_the_command_compares_all_rankers(finished: Options) -> None:
    results = results_of(finished)
    expected = {"jepa-relaxed", "jepa-hull", "jepa-distance", "composition", "chgnet", "random"}
    assert set(results["wbm"]["rows"]) >= expected
    assert results["wbm"]["num"] == 40
    assert results["wbm"]["rows"]["chgnet"]["num_scored"] == 40
    assert results["rankers"]["jepa-hull"]["labels"] == 7
    assert set(results["timing"]["summary"]) >= (expected - {"random"}) | {OWN}
    assert results["timing"]["summary"][OWN]["batched"]["times_faster"] == 1
    ranked = results["relaxed"]["sets"]["DiffCSP"]
    assert (ranked["num"], ranked["num_without_label"], ranked["num_invalid"]) == (4, 7, 1)
    assert set(results["distances"]["rows"]) >= {"Eq. 11", "whitened", "learned"}
    eq11, ranker = results["distances"]["rows"]["Eq. 11"], results["wbm"]["rows"]["jepa-distance"]
    assert eq11["auc_0.1"]["value"] == pytest.approx(ranker["auc_0.1"]["value"], abs=1e-3)


def test_the_page_says_what_was_measured(finished: Options) -> None:
    results, text = results_of(finished), (finished.out / "screening.md").read_text(encoding="utf-8")
    assert "quick run" in text
    for row in results["wbm"]["rows"].values():
        assert f"| {row['auc_0.1']['value']:.3f} (" in text
    assert text == "\n".join(page(results)).rstrip() + "\n"
    assert "nan" not in text and "None" not in text and str(finished.data) not in text
    root = ElementTree.parse(finished.out / "screening.svg").getroot()
    drawn = " ".join(root.itertext())
    assert "before relaxation" in drawn and "jepa-relaxed" in drawn and "mathdefault" not in drawn


def test_a_run_that_was_killed_goes_on_and_ends_alike(finished: Options) -> None:
    kept = {p: p.stat().st_mtime_ns for p in (finished.out / "kept").iterdir()}
    before = {n: (finished.out / n).read_bytes() for n in ("screening.json", "screening.md", "screening.svg")}
    lost = next(p for p in kept if p.name.startswith("scores-wbm-jepa-hull"))
    content = lost.read_bytes()
    lost.unlink()
    (finished.out / "screening.json").unlink()
    run_benchmark(finished)
    assert lost.read_bytes() == content
    assert {n: (finished.out / n).read_bytes() for n in before} == before
    assert {p: p.stat().st_mtime_ns for p in kept if p != lost} == {
        p: t for p, t in kept.items() if p != lost
    }


def test_labels_are_of_the_very_crystal_and_hull(finished: Options) -> None:
    hull = read_hull(finished.data)
    crystals, invalid = split_valid(
        draw_sets(finished.data, finished.generator, Store(finished.out))["DiffCSP"]
    )
    assert list(invalid) == ["diffcsp-11"]
    labels = read_labels(finished.labels, "DiffCSP", crystals, hull)
    assert labels.labelled.tolist() == [True] * 4 + [False] * 7
    assert np.isfinite(labels.e_above_hull[:4]).any()
    moved = replace(crystals, frac_coords=crystals.frac_coords + 1e-3)
    assert not read_labels(finished.labels, "DiffCSP", moved, hull).labelled.any()
    assert not read_labels(finished.labels, "crysjepa", crystals, hull).labelled.any()
    other = replace(hull, compounds=dict(list(hull.compounds.items())[:-1]))
    with pytest.raises(ValueError, match=r"another hull.*--relabel"):
        read_labels(finished.labels, "DiffCSP", crystals, other)


def test_without_labels_the_rest_is_compared(finished: Options, tmp_path: Path) -> None:
    results = run_benchmark(replace(finished, labels=tmp_path / "none.parquet"))
    assert results["relaxed"]["sets"] == {} and "--relabel" in results["relaxed"]["reason"]
    assert "Not measured" in "\n".join(page(results))
    run_benchmark(finished)


def test_our_own_generator_is_drawn_once(data: Path, tiny: TinyWorld, tmp_path: Path) -> None:
    sizes = {"DiffCSP": 3, "crysjepa": 5}
    first, again = (
        draw_sets(data, tiny.generator, Store(folder), sizes) for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert set(first) == {"DiffCSP", "crysjepa"} and len(first["DiffCSP"]) == 3
    assert first["crysjepa"].content_hash() == again["crysjepa"].content_hash()


@pytest.mark.parametrize("processes", [1, 2])
def test_vectors_made_in_pieces_are_the_same(
    data: Path, tiny: TinyWorld, tmp_path: Path, processes: int
) -> None:
    """A crystal of an unknown element fails alone; what is kept is not made again."""
    reference = read_known(data).crystals
    numbers = reference.atomic_numbers.copy()
    numbers[0] = 117
    odd = replace(reference, atomic_numbers=numbers)
    embedder = JepaEmbedder(CrysJepa.load(tiny.jepa))
    pooled = Pooled(embedder, Store(tmp_path), processes)
    whole, pieces = embedder.embed(odd), pooled.embed(odd)
    assert pieces.failures == whole.failures and set(whole.failures) == {0}
    np.testing.assert_array_equal(pieces.rows, whole.rows)
    np.testing.assert_allclose(pieces.vectors, whole.vectors, rtol=1e-4, atol=1e-5)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert len(kept) == 2
    again = pooled.embed(odd)
    np.testing.assert_array_equal(again.vectors, pieces.vectors)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == kept


def test_what_is_out_of_reach_changes_no_distance(data: Path, tiny: TinyWorld) -> None:
    reference, crystals = read_known(data).crystals, read_wbm(data).crystals[:10]
    near = within_reach(reference, crystals)
    assert near.any() and not near.all()
    model = CrysJepa.load(tiny.jepa)
    whole, part = (
        make_ranker("jepa-distance", RankerContext(known, jepa=model)).score(crystals)
        for known in (reference, reference[near])
    )
    assert {i: s.num_references for i, s in whole.items()} == {i: s.num_references for i, s in part.items()}
    assert any(s.value is not None for s in whole.values())
    for id_, score in whole.items():
        assert part[id_].value == (None if score.value is None else pytest.approx(score.value, abs=1e-5))


def test_other_force_fields_get_references_of_their_own(data: Path, tiny: TinyWorld, tmp_path: Path) -> None:
    known, hull = read_known(data), read_hull(data)
    context = RankerContext(
        known.crystals, known.formation_energies, scale=hull.scale, hull=hull, jepa=tiny.jepa
    )
    store = Store(tmp_path)
    fitted = with_fitted_references(context, LENNARD_JONES, known, store)
    assert fitted.elemental_references is not None
    assert fitted.elemental_references.scale == hull.scale
    again = with_fitted_references(context, LENNARD_JONES, known, store)
    assert again.elemental_references == fitted.elemental_references
    bench = Bench.set_up(fitted, store, [LENNARD_JONES])
    scores = bench.score(LENNARD_JONES, known.crystals[:5], "few")
    assert np.isfinite(scores.values).any()


def test_a_ranker_that_cannot_be_made_is_named(data: Path, tiny: TinyWorld, tmp_path: Path) -> None:
    context = RankerContext(read_known(data).crystals, jepa=tiny.jepa)
    bench = Bench.set_up(context, Store(tmp_path), ["random", "chgnet"])
    assert set(bench.rankers) == {"random"} and "hull" in bench.missing["chgnet"]


def test_times_are_medians_and_ratios_of_one_round() -> None:
    rounds = [
        {"one_by_one": {"a": 1.0, OWN: 2.0}, "batched": {"a": 1.0, OWN: 1.0}},
        {"one_by_one": {"a": 10.0, OWN: 30.0}, "batched": {"a": 1.0, OWN: 4.0}},
        {"one_by_one": {"a": 2.0, OWN: 8.0}, "batched": {"a": 1.0, OWN: 2.0}},
    ]
    found = summarise(rounds)
    assert found["a"]["one_by_one"]["seconds"] == 20_000
    assert found["a"]["one_by_one"]["times_faster"] == 3
    assert (found["a"]["batched"]["times_faster_low"], found["a"]["batched"]["times_faster_high"]) == (1, 4)


def test_verdicts_follow_the_interval() -> None:
    assert verdict({"value": 0.1, "low": 0.01, "high": 0.2}) == "ranks better"
    assert verdict({"value": -0.1, "low": -0.2, "high": -0.01}) == "ranks worse"
    assert verdict({"value": 0.1, "low": -0.01, "high": 0.2}) == "cannot be told apart"
