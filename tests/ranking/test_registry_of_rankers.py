"""Every ranker of the registry behind one interface."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import system_names
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, ScaleMismatch
from crysjepa.energy.hull import Hull
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.ranking.composition import fit_ridge
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.random_control import Random
from crysjepa.ranking.registry import RANKERS, RankerContext, Score, make_ranker, ranker_info, ranks
from crysjepa.relaxation.force_fields.registry import force_field_names

MP = "materials_project"


@pytest.fixture
def context(tiny):
    table = CandidateTable.read(tiny.reference)
    energies = np.array(table.column("formation_energy_per_atom"))
    hull = Hull.from_table(table, scale=MP, source="salts")
    return RankerContext(table.crystals(), energies, MP, hull, tiny.jepa)


@pytest.fixture
def strangers(salts):
    """The salts, one in a system without reference, one of an unknown element, one too small a cell."""
    cells = np.stack([2.8 * np.eye(3), 4 * np.eye(3), 0.2 * np.eye(3)])
    more = Crystals(
        np.array([78, 110, 3]), np.zeros((3, 3)), cells, np.array([1, 1, 1]), ("Pt", "Ds", "speck")
    )
    return Crystals.concatenate([salts, more])


def test_the_registry_lists_them_all():
    wanted = {"jepa-distance", "jepa-hull", "jepa-relaxed", "fingerprint", "composition", "random"}
    assert set(RANKERS) == wanted | set(force_field_names())
    with pytest.raises(ValueError, match=r"taste.*jepa-hull"):
        ranker_info("taste")


@pytest.mark.parametrize("name", ["jepa-distance", "jepa-hull", "jepa-relaxed", "composition", "random"])
def test_every_crystal_has_a_score_or_a_reason(name, context, strangers):
    ranker = make_ranker(name, context)
    assert ranker.name == name and ranker.chunk_size > 0
    scores = ranker.score(strangers)
    assert list(scores) == list(strangers.ids)
    for score in scores.values():
        assert (score.value is None) == (score.reason is not None)
        assert score.value is None or np.isfinite(score.value)
    backwards = ranker.score(strangers[::-1])
    for id_, score in scores.items():
        assert backwards[id_].value == (None if score.value is None else pytest.approx(score.value, abs=1e-5))
    assert ranker.score(strangers[:0]) == {}


def test_keys_tell_rankers_models_references_and_hulls_apart(context, tiny):
    names = ("jepa-distance", "jepa-hull", "jepa-relaxed", "composition")
    keys = {make_ranker(name, context).key for name in names}
    assert len(keys) == 4 and keys == {make_ranker(name, context).key for name in names}
    fewer = RankerContext(context.reference[:4], context.formation_energies[:4], MP, context.hull, tiny.jepa)
    lower = Hull.from_entries(["NaCl"], [-5.0], scale=MP, source="x")
    other = RankerContext(context.reference, context.formation_energies, MP, lower, tiny.jepa)
    for changed in (fewer, other):
        assert make_ranker("jepa-hull", changed).key not in keys


def test_jepa_distance_is_eq_11(context, strangers):
    scores = make_ranker("jepa-distance", context).score(strangers)
    h = JepaEmbedder(context.model).embed(context.reference).vectors.astype(float)
    ids = list(context.reference.ids)
    for id_, system in zip(context.reference.ids, system_names(context.reference), strict=True):
        mates = [
            j
            for j, s in enumerate(system_names(context.reference))
            if set(s.split("-")) <= set(system.split("-"))
        ]
        plain = np.mean([((h[ids.index(id_)] - h[j]) ** 2).sum() for j in mates])
        assert scores[id_].value == pytest.approx(plain, abs=1e-5)
        assert scores[id_].num_references == len(mates)
        assert scores[id_].support_distance == pytest.approx(0, abs=1e-3)
    assert scores["Pt"].value is None and "no reference crystal in Pt" in scores["Pt"].reason
    assert scores["Pt"].num_references == 0 and scores["Pt"].support_distance is None


def test_jepa_hull_is_the_energy_above_hull(context, strangers):
    model, scores = context.model, make_ranker("jepa-hull", context).score(strangers)
    relaxed = make_ranker("jepa-relaxed", context).score(strangers)
    vectors = JepaEmbedder(model).embed(context.reference).vectors
    for which, found in ((False, scores), (True, relaxed)):
        energies = model.energies(vectors, relaxed=which)
        for id_, composition, energy in zip(
            context.reference.ids, context.reference.compositions(), energies, strict=True
        ):
            above = context.hull.e_above_hull(composition, float(energy)).e_above_hull
            assert found[id_].value == pytest.approx(above, abs=1e-5)
    assert any(abs(scores[i].value - relaxed[i].value) > 1e-6 for i in context.reference.ids)
    assert scores["Pt"].value is not None, "the elements bound the hull"
    assert scores["Pt"].num_references == 0 and scores["Pt"].support_distance is None
    assert "110" in scores["Ds"].reason and "too small" in scores["speck"].reason
    assert make_ranker("jepa-hull", context).notes == ()


def known_lattice(num=40):
    """Rock salts of every two of seven elements, so that shifts between scales can be fitted."""
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations((3, 11, 19, 37, 9, 17, 35), 2))
    numbers = np.array([pairs[i % len(pairs)] for i in range(num)]).reshape(-1)
    cells = rng.uniform(3.5, 6.5, num)[:, None, None] / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    coords = np.tile([[0, 0, 0], [0.5, 0.5, 0.5]], (num, 1))
    return Crystals(numbers, coords, cells, np.full(num, 2), tuple(f"s{i}" for i in range(num)))


@pytest.mark.parametrize("name", ["jepa-hull", "composition"])
def test_where_the_hull_knows_too_little_there_is_no_score(name, context, strangers):
    hull = context.needed_hull(name)
    free = make_ranker(name, context).score(strangers)
    asked = replace(context, min_hull_entries=2)
    ranker = make_ranker(name, asked)
    scores = ranker.score(strangers)
    assert ranker.key != make_ranker(name, context).key
    few = 0
    for id_, composition in zip(strangers.ids, strangers.compositions(), strict=True):
        known = hull.e_above_hull(composition, 0.0).num_entries
        if len(composition) > 1 and known < 2 and free[id_].value is not None:
            assert scores[id_].value is None
            assert (
                f"knows {known} compounds" in scores[id_].reason and "2 are asked for" in scores[id_].reason
            )
            few += 1
        else:
            assert scores[id_] == free[id_]
    assert 0 < few < len(strangers)


def test_what_is_too_good_to_be_true_has_no_score(context, strangers, monkeypatch):
    energies = CrysJepa.energies

    def deep(model, embeddings, **options):
        found = energies(model, embeddings, **options)
        found[0] = -7.7
        return found

    monkeypatch.setattr(CrysJepa, "energies", deep)
    first, *others = make_ranker("jepa-hull", context).score(strangers).values()
    assert first.value is None and "-7.7 eV/atom is below that of any known" in first.reason
    assert any(s.value is not None for s in others)


def test_scales_are_bridged_by_shifts_fitted_on_the_reference(tiny):
    """Energies of another scale differ by a number for each element: that is found, and said."""
    model, crystals = CrysJepa.load(tiny.jepa), known_lattice()
    own = model.energies(JepaEmbedder(model).embed(crystals).vectors)
    shift = {"Li": 0.3, "Na": -0.2, "K": 0.1, "Rb": 0.5, "F": -1.0, "Cl": 0.7, "Br": 0.2}
    amounts = [sum(shift[e.symbol] for e in c.elements) / 2 for c in crystals.compositions()]
    labels = own - amounts
    hull = Hull.from_entries([c.formula for c in crystals.compositions()], labels, scale="old", source="x")
    context = RankerContext(crystals, labels, "old", hull, model)
    ranker = make_ranker("jepa-hull", context)
    (note,) = ranker.notes
    assert "materials_project" in note and "old" in note and "40 crystals" in note
    scores = ranker.score(crystals)
    for id_, composition, label in zip(crystals.ids, crystals.compositions(), labels, strict=True):
        assert scores[id_].value == pytest.approx(
            hull.e_above_hull(composition, label).e_above_hull, abs=1e-3
        )
    iron = Crystals(np.array([26]), np.zeros((1, 3)), 2.8 * np.eye(3)[None], np.array([1]), ("Fe",))
    assert "Fe" in ranker.score(iron)["Fe"].reason and ranker.score(iron)["Fe"].value is None
    with pytest.raises(ScaleMismatch, match="old"):
        make_ranker("jepa-hull", RankerContext(crystals, None, "old", hull, model))
    with pytest.raises(ScaleMismatch, match="older"):
        make_ranker("jepa-hull", RankerContext(crystals, labels, "older", hull, model))
    mixed = make_ranker(
        "jepa-hull", RankerContext(crystals, None, "old", hull, model, allow_mixed_scales=True)
    )
    assert mixed.shifts is None and "old" in mixed.notes[0]


def test_what_is_missing_is_named(context):
    torch.manual_seed(0)
    paper = CrysJepa(Jepa(JepaConfig(TransformerConfig(layers=1, width=16, heads=2))))
    bare = RankerContext(context.reference, jepa=context.model)
    for name in ("jepa-hull", "jepa-relaxed", "composition", "chgnet"):
        with pytest.raises(ValueError, match=rf"{name}.*hull"):
            make_ranker(name, bare)
    blind = RankerContext(context.reference, context.formation_energies, MP, context.hull, paper)
    with pytest.raises(ValueError, match="trained without"):
        make_ranker("jepa-hull", blind)
    assert make_ranker("jepa-distance", blind).score(context.reference)["NaCl"].value == pytest.approx(
        0, abs=1e-5
    )
    with pytest.raises(ValueError, match="formation energies"):
        make_ranker("composition", RankerContext(context.reference, hull=context.hull))
    with pytest.raises(ScaleMismatch, match="old"):
        make_ranker(
            "composition", RankerContext(context.reference, context.formation_energies, "old", context.hull)
        )


def test_composition_is_blind_to_structure_and_learns(context):
    crystals = known_lattice()
    halogens = np.array([np.isin(c.atomic_numbers, (9, 17, 35)).mean() for c in crystals])
    energies = -4 * halogens + 0.01 * np.random.default_rng(1).normal(size=len(crystals))
    hull = Hull.from_entries(["LiF"], [-2.0], scale=MP, source="x")
    ranker = make_ranker("composition", RankerContext(crystals, energies, MP, hull))
    scores = ranker.score(crystals)
    pairs = zip(crystals.compositions(), energies, strict=True)
    wanted = np.array([hull.e_above_hull(c, e).e_above_hull for c, e in pairs])
    found = np.array([s.value for s in scores.values()])
    assert np.abs(found - wanted).max() < 0.1
    assert found[0] == pytest.approx(found[21]), "the same composition in another cell"
    assert scores["s0"].num_references == 2 and scores["s0"].support_distance is None


def test_the_error_of_a_ridge_is_that_on_the_crystal_left_out():
    rng = np.random.default_rng(3)
    features, energies = rng.normal(size=(30, 4)), rng.normal(size=30)
    weights, error = fit_ridge(features, energies)

    def fitted(x, y, penalty):
        return np.linalg.solve(x.T @ x + penalty * np.eye(4), x.T @ y)

    errors = {}
    for penalty in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        gaps = [
            energies[i] - features[i] @ fitted(np.delete(features, i, 0), np.delete(energies, i), penalty)
            for i in range(30)
        ]
        errors[penalty] = np.sqrt(np.mean(np.square(gaps)))
    best = min(errors, key=errors.get)
    assert error == pytest.approx(errors[best]) and weights == pytest.approx(fitted(features, energies, best))


def test_a_force_field_ranks_by_its_static_energy(context, strangers):
    from ase.calculators.lj import LennardJones

    name = "ase.calculators.lj:LennardJones"
    references = ElementalReferences({"Na": -1.0, "Cl": 0.5, "Pt": 0.0, "Ds": 0.0}, name, MP, "nothing")
    full = RankerContext(context.reference, hull=context.hull, elemental_references=references)
    scores = make_ranker(name, full).score(strangers)
    (atoms,) = context.reference.select(["NaCl"]).to_atoms()
    atoms.calc = LennardJones()
    formation = atoms.get_potential_energy() / 2 + 0.25
    above = context.hull.e_above_hull("NaCl", formation).e_above_hull
    assert scores["NaCl"].value == pytest.approx(above) and scores["NaCl"].num_references == 1
    assert "Sr, Ti" in scores["SrTiO3"].reason.replace("O, ", "") and scores["Pt"].num_references == 0
    asking = replace(full, elemental_references=replace(references, corrections="MP2020"))
    corrected = make_ranker(name, asking).score(strangers)
    assert corrected["NaCl"].value == pytest.approx(above - 0.614 / 2), "of a chloride, Wang et al. (2021)"
    assert set(corrected) == set(scores)
    wrong = ElementalReferences(references.energies, name, "old", "nothing")
    with pytest.raises(ScaleMismatch):
        make_ranker(name, RankerContext(context.reference, hull=context.hull, elemental_references=wrong))
    with pytest.raises(FileNotFoundError, match="no elemental references"):
        make_ranker(name, RankerContext(context.reference, hull=context.hull))


def test_chgnet_by_name(context, strangers):
    ranker = make_ranker("chgnet", context)
    scores = ranker.score(strangers)
    assert abs(scores["NaCl"].value) < 0.6 and abs(scores["MgO"].value) < 0.6, "its own crystals"
    assert "94" in scores["Ds"].reason and scores["speck"].value is None and "chgnet" in ranker.notes[0]


def test_ranks_put_the_lowest_first_and_the_unscored_last():
    scores = {"b": Score(0.0), "c": Score(None, reason="no reference"), "d": Score(-1.0), "a": Score(0.0)}
    assert ranks(scores) == {"d": 1, "a": 2, "b": 3, "c": 4}


def test_random_depends_on_seed_and_id_alone(salts):
    first = Random(1).score(salts)
    turned = Random(1).score(salts[::-1])
    assert first == {i: turned[i] for i in salts.ids}
    assert first != Random(2).score(salts)
    values = [s.value for s in Random(0).score(salts.with_ids([str(i) for i in range(7)])).values()]
    assert all(v is not None and 0 <= v < 1 for v in values) and len(set(values)) == 7
    many = [Random(0).score(salts[:1].with_ids([str(i)]))[str(i)].value for i in range(500)]
    assert abs(np.mean(many) - 0.5) < 0.05
