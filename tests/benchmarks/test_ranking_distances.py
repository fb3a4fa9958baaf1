"""Variants of Eq. 11 against the package's own index, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from ranking.distances import (
    References,
    features,
    fold_of,
    hull_weighted,
    learn,
    mean_square,
    nearest,
    ridge,
    score_by,
    spread,
    standardiser,
    system_normalised,
    variant_scores,
    whitener,
)

from crysjepa.core.chemical_systems import keys_of_names
from crysjepa.ranking.reference_index import ReferenceIndex

SYSTEMS = ("Li", "Li-O", "Li-O", "Na-O", "O", "Li-Na-O", "Fe")


@pytest.fixture
def references() -> References:
    rng = np.random.default_rng(0)
    return References(rng.normal(size=(7, 4)), SYSTEMS, rng.random(7) * 0.1)


def many(seed: int = 0, count: int = 400) -> References:
    """Crystals of some dozens of systems, whose energy follows from where they lie among the others."""
    rng = np.random.default_rng(seed)
    elements = ["Li", "Na", "K", "Mg", "Ca", "O", "S", "F", "Cl"]
    systems = [
        "-".join(sorted(rng.choice(elements, rng.integers(1, 4), replace=False))) for _ in range(count)
    ]
    h = rng.normal(size=(count, 3))
    return References(h, systems, np.clip(0.2 + 0.05 * h[:, 0], 0.0, None))


def test_eq_11_and_the_nearest_are_those_of_the_index(references: References) -> None:
    h = np.random.default_rng(1).normal(size=(4, 4))
    systems = ["Li-Na-O", "Li-O", "Fe", "Ag-Cl"]
    index = ReferenceIndex.of(
        [str(i) for i in range(7)], list(SYSTEMS), references.embeddings.astype(np.float32), "key"
    )
    scores = score_by(mean_square, references, h, systems)
    close = score_by(nearest, references, h, systems)
    single, keys = h[:3].astype(np.float32), keys_of_names(systems[:3])
    assert scores[:3] == pytest.approx(index.mean_square(single, keys), rel=1e-4)
    assert np.sqrt(close[:3]) == pytest.approx(index.support(single, keys), rel=1e-4)
    assert np.isinf(scores[3]) and np.isinf(close[3])


def test_weights_of_references_on_one_height_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    h, refs = rng.normal(size=3), rng.normal(size=(5, 3))
    plain = mean_square(h, refs, np.zeros(5))
    assert hull_weighted(h, refs, np.full(5, 0.07)) == pytest.approx(plain)
    far = np.array([0.0, 2.0, 2.0, 2.0, 2.0])
    assert hull_weighted(h, refs, far) == pytest.approx(nearest(h, refs[:1], far[:1]))


def test_spread_is_the_mean_over_pairs() -> None:
    refs = np.random.default_rng(3).normal(size=(6, 2))
    pairs = [((a - b) ** 2).sum() for i, a in enumerate(refs) for b in refs[:i]]
    assert spread(refs) == pytest.approx(np.mean(pairs))
    assert np.isnan(spread(refs[:1]))


def test_normalised_by_the_system_no_scale_matters(references: References) -> None:
    h = np.random.default_rng(4).normal(size=(3, 4))
    systems = ["Li-Na-O", "Fe", "Li-O"]
    scaled = references.mapped(lambda x: 7 * x)
    once = score_by(system_normalised(references), references, h, systems)
    again = score_by(system_normalised(scaled), scaled, 7 * h, systems)
    np.testing.assert_allclose(once, again)


def test_whitened_no_linear_map_matters() -> None:
    rng = np.random.default_rng(5)
    x, h, turn = rng.normal(size=(50, 3)), rng.normal(size=3), rng.normal(size=(3, 3))
    one, other = whitener(x, floor=0.0), whitener(x @ turn, floor=0.0)
    squares = ((one(x) - one(h)) ** 2).sum(axis=1)
    np.testing.assert_allclose(squares, ((other(x @ turn) - other(h @ turn)) ** 2).sum(axis=1))
    np.testing.assert_allclose(np.cov(one(x).T, bias=True), np.eye(3), atol=1e-9)


def test_standardised_directions_that_do_not_vary_are_ignored() -> None:
    x = np.column_stack([np.arange(4.0), np.full(4, 3.0)])
    assert standardiser(x)(np.array([[1.5, 99.0]])).tolist() == [[0.0, 0.0]]


def test_ridge_solves_its_equations() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    weights, intercept = ridge(x, y, 0.3)
    residual = y - x @ weights - intercept
    assert residual.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(x.T @ residual / 40, 0.3 * weights, atol=1e-12)
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(40)]), y, rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, 0.0)[0], exact[:3])


def test_what_is_learned_holds_for_systems_that_were_left_out() -> None:
    references = many()
    learned = learn(references)
    assert learned.error < 0.6 * learned.of_the_mean
    fresh = many(seed=1, count=50)
    guess = score_by(learned.measure, references, fresh.embeddings, fresh.systems)
    known = np.isfinite(guess)
    assert known.any() and np.corrcoef(guess[known], fresh.e_above_hull[known])[0, 1] > 0.8


def test_no_crystal_learns_from_itself() -> None:
    alone = References(np.eye(30), [f"X{i}" for i in range(30)], np.zeros(30))
    with pytest.raises(ValueError, match="too few"):
        learn(alone)


def test_a_system_is_in_one_fold() -> None:
    assert fold_of("Li-O") == fold_of("Li-O")
    assert len({fold_of(f"{a}-{b}") for a in "BCFHIKNOPS" for b in "UVWY"}) == 5


def test_every_variant_scores_every_crystal_with_a_reference() -> None:
    references, fresh = many(), many(seed=2, count=20)
    systems = [*fresh.systems[:-1], "Ag"]
    scores, learned = variant_scores(references, fresh.embeddings, systems)
    assert {"Eq. 11", "nearest reference", "learned", "whitened"} <= set(scores)
    for values in scores.values():
        assert np.isfinite(values[:-1]).all() and np.isinf(values[-1])
    assert len(learned.weights) == len(features(np.zeros(3), np.eye(3), np.zeros(3)))
