"""Templates filled with given elements."""

from __future__ import annotations

import numpy as np
import pytest

from crysjepa.core.symmetry import symmetry_of
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.base import load_generator
from crysjepa.generators.flow.filling import Filled, fill, fillings_of, kinds, log_likelihoods
from crysjepa.generators.flow.orbits import orbits_of, settle
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.generators.flow.templates import Templates

LI, OXYGEN, F, NA, TI, BA = 3, 8, 9, 11, 22, 56


@pytest.fixture(scope="module")
def flow(tiny) -> FlowSampler:
    found = load_generator(tiny.generator)
    assert isinstance(found, FlowSampler)
    return found


def test_every_filling_is_the_formula(flow):
    found = fillings_of(flow, {BA: 1, TI: 1, OXYGEN: 3}, 20)
    assert found.num_templates == found.num_fit == 1, "the perovskite"
    assert found.num_possible == len(found.filled) == 2, "Ba and Ti in both orders"
    crystals, failures = fill(flow, found.filled, ["a", "b"])
    assert not failures and crystals.ids == ("a", "b")
    assert reduced_formulas(crystals) == [((OXYGEN, 3), (TI, 1), (BA, 1))] * 2
    assert [symmetry_of(c, 0.01).number for c in crystals] == [221, 221]


def test_no_cell_is_too_large_and_other_formulas_do_not_fit(flow):
    assert fillings_of(flow, {BA: 1, TI: 1, OXYGEN: 3}, 4).filled == []
    found = fillings_of(flow, {BA: 1, TI: 2, OXYGEN: 2}, 20)
    assert (found.num_templates, found.num_fit, found.filled) == (1, 0, [])


def test_the_same_seed_fills_alike_and_another_does_not(flow):
    filled = fillings_of(flow, {NA: 1, F: 1}, 20).filled * 3
    ids = [f"c-{i}" for i in range(len(filled))]
    first, again, other = (fill(flow, filled, ids, seed=seed)[0] for seed in (1, 1, 2))
    assert first.content_hash() == again.content_hash() != other.content_hash()


def test_a_template_of_one_orbit_takes_some_element_for_sure(flow, salts):
    """The likelihoods of all its elements add up to how often the template occurs."""
    alone = Templates.of([orbits_of(225, np.array([[0.0, 0.0, 0.0]])), settle(salts[0]).orbits])
    sampler = FlowSampler(flow.flow, alone, flow.element_shares)
    # noise for the cell differs from row to row, and with it the shares of elements: all but the sum
    likely = log_likelihoods(sampler, [Filled(0, (z,)) for z in range(1, 101)], seed=3)
    assert np.isfinite(likely).all() and np.exp(likely).sum() == pytest.approx(0.5, rel=0.3)


def test_what_the_flow_learnt_is_likelier(flow):
    own, other = log_likelihoods(
        flow, [Filled(t, e) for t, e in _perovskites(flow, (38, TI, OXYGEN), (16, 92, 54))]
    )
    assert own > other + 5


def _perovskites(flow, *orders):
    row = int(np.flatnonzero(flow.templates.num_sites == 5)[0])
    multiplicities = flow.templates.orbits(row).multiplicities
    for a, b, x in orders:
        singles = iter((a, b))
        yield row, tuple(x if m == 3 else next(singles) for m in multiplicities)


def test_orbits_of_a_kind_count_once(flow):
    plain = orbits_of(1, np.array([[0.1, 0.2, 0.3], [0.6, 0.5, 0.4], [0.2, 0.8, 0.7]]))
    assert len(set(kinds(plain))) == 1
    centred = orbits_of(2, np.array([[0.0, 0, 0], [0.5, 0, 0], [0.1, 0.2, 0.3]]))
    assert len(set(kinds(centred))) == 3
    sampler = FlowSampler(flow.flow, Templates.of([plain]), flow.element_shares)
    (found,) = fillings_of(sampler, {LI: 2, F: 1}, 20).filled
    assert found.alike == 3, "any of the three may be the fluorine"


def test_what_cannot_be_filled_is_refused(flow):
    with pytest.raises(ValueError, match="elements for the orbits"):
        fill(flow, [Filled(0, (LI,))], ["a"])
    with pytest.raises(ValueError, match="knows the first"):
        fill(flow, [Filled(0, (LI, 101))], ["a"])
