"""Elemental references: the fit against known answers, and the rule on scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymatgen.core import Composition

from crysjepa.energy.elemental_references import (
    ElementalReferences,
    ScaleMismatch,
    check_scales,
    fit_references,
    load_references,
    read_references,
)

TRUE = {"Li": -1.9, "Fe": -8.4, "O": -4.9, "P": -5.4}


def sample(number: int, seed: int = 0) -> tuple[list[Composition], np.ndarray, np.ndarray]:
    """Compositions with formation energies, and the total energies that TRUE makes of them."""
    rng = np.random.default_rng(seed)
    compositions = [
        Composition(
            {e: int(n) for e, n in zip(TRUE, rng.integers(0, 5, len(TRUE)), strict=True) if n} or {"O": 2}
        )
        for _ in range(number)
    ]
    formation = rng.uniform(-3, 0.5, number)
    total = formation + [sum(c.get_atomic_fraction(e) * mu for e, mu in TRUE.items()) for c in compositions]
    return compositions, total, formation


def fit(compositions: list[Composition], total: np.ndarray, formation: np.ndarray) -> ElementalReferences:
    return fit_references(compositions, total, formation, force_field="ff", scale="test", source="test")


def test_recovers_the_references_that_made_the_data() -> None:
    fitted = fit(*sample(60))
    assert fitted.energies == pytest.approx(TRUE, abs=1e-6)
    assert fitted.mae == pytest.approx(0, abs=1e-6)
    assert fitted.num_fitted == 60
    assert list(fitted.energies) == ["Li", "O", "P", "Fe"]


def test_a_few_gross_errors_hardly_move_the_fit() -> None:
    compositions, total, formation = sample(200)
    noisy = formation + np.random.default_rng(1).normal(0, 0.01, 200)
    spoiled = noisy.copy()
    spoiled[::20] += 0.8
    robust = fit(compositions, total, spoiled).energies
    design = np.array([[c.get_atomic_fraction(e) for e in TRUE] for c in compositions])
    plain = np.linalg.lstsq(design, total - spoiled, rcond=None)[0]
    robust_error = max(abs(robust[e] - mu) for e, mu in TRUE.items())
    assert robust_error < 0.02
    assert robust_error < 0.5 * np.abs(plain - list(TRUE.values())).max()


def test_missing_energies_are_not_fitted() -> None:
    compositions, total, formation = sample(60)
    total[3], formation[5] = math.nan, math.inf
    assert fit(compositions, total, formation).num_fitted == 58


def test_elements_that_are_rare_or_undetermined_are_left_out_with_a_reason() -> None:
    compositions, total, formation = sample(60)
    rare = [Composition("XeF6")] + [Composition(f"Na{n}Cl{n}") for n in (1, 2, 3, 4)]
    fitted = fit(
        [*compositions, *rare], np.append(total, [-3.0] * len(rare)), np.append(formation, [0.0] * len(rare))
    )
    assert set(fitted.excluded) == {"Xe", "F", "Na", "Cl"}
    assert "1" in fitted.excluded["Xe"]
    assert "not determined" in fitted.excluded["Na"]
    assert fitted.energies == pytest.approx(TRUE, abs=1e-6)
    assert fitted.num_fitted == 60


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no element"):
        fit([Composition("LiFe")], np.array([-1.0]), np.array([0.0]))


def test_formation_energy() -> None:
    references = ElementalReferences({"Li": -2.0, "O": -5.0}, "ff", "test", "test")
    assert references.formation_energy_per_atom(Composition("Li2O"), -4.0) == (pytest.approx(-1.0), None)
    assert references.formation_energy_per_atom(Composition("Li4O2"), -4.0)[0] == pytest.approx(-1.0)
    value, reason = references.formation_energy_per_atom(Composition("LiXe"), -4.0)
    assert value is None
    assert reason == "no ff reference energy for Xe"
    for energy in (None, math.nan, math.inf):
        value, reason = references.formation_energy_per_atom(Composition("Li2O"), energy)
        assert value is None
        assert reason


def test_json_round_trip(tmp_path) -> None:
    fitted = fit(*sample(30))
    (tmp_path / "r.json").write_text(fitted.to_json(), encoding="utf-8")
    assert read_references(tmp_path / "r.json") == fitted
    for text in ('{"a": 1}', "[]", "not json"):
        with pytest.raises(ValueError):
            ElementalReferences.from_json(text)


@pytest.mark.parametrize("scale", ["materials_project", "materials_project_2015"])
def test_the_references_that_come_with_the_package(scale: str) -> None:
    references = load_references("chgnet", scale)
    assert (references.force_field, references.scale) == ("chgnet", scale)
    assert references.source
    assert references.mae is not None and references.mae < 0.1
    assert set(references.counts) == set(references.energies)
    assert len(references.energies) > 60
    assert not set(references.excluded) & set(references.energies)


def test_the_scales_of_the_package_differ_by_the_corrections_of_2020() -> None:
    new, old = (
        load_references("chgnet", s).energies for s in ("materials_project", "materials_project_2015")
    )
    # Anions that MP2020 corrects and the scheme of 2015 did not: Wang et al., Sci. Rep. 11, 15496 (2021).
    for element, correction in {"Br": -0.534, "Se": -0.472, "Te": -0.422, "I": -0.379}.items():
        assert old[element] - new[element] == pytest.approx(correction, abs=0.05)
    both = set(new) & set(old)
    assert np.median([abs(new[e] - old[e]) for e in both]) < 0.03


def test_asking_for_references_that_do_not_exist() -> None:
    with pytest.raises(FileNotFoundError, match=r"chgnet on materials_project.*fit_references"):
        load_references("chgnet", "nowhere")


def test_scales() -> None:
    check_scales("a", "a")
    check_scales("a", "b", allow_mixed=True)
    with pytest.raises(ScaleMismatch, match=r"'a'.*'b'.*allow_mixed_scales"):
        check_scales("a", "b")
