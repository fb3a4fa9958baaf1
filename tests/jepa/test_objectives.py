from typing import get_args

import numpy as np
import pytest
import torch

from conftest import TINY_INVARIANT, make_salts
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.losses import info_nce, mean_absolute
from crysjepa.jepa.network import Jepa, JepaConfig, Objective
from crysjepa.jepa.objectives import CONTEXTS, CONTRAST, RELAXED, SITES, JepaLoss
from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.training import TrainSettings, train_model
from crysjepa.nn.transformer import TransformerConfig

NETWORKS = {"transformer": TransformerConfig(layers=1, width=32, heads=4), "invariant": TINY_INVARIANT}
SETTINGS = TrainSettings(
    steps=40, batch_size=14, warmup=3, learning_rate=3e-3, checkpoint_every=10, record_every=10
)
ENERGIES = np.array([-2.1, -2.2, -3.1, -3.0, -3.3, -2.0, -3.5])


def two_sets():
    """Seven salts at rest and the same ones blown up, whose energy is 0.4 eV/atom higher."""
    salts = canonicalise(make_salts())[0]
    loose = Crystals(
        salts.atomic_numbers,
        salts.frac_coords,
        1.1 * salts.lattices,
        salts.num_atoms,
        [f"{i}-loose" for i in salts.ids],
    )
    return Crystals.concatenate([salts, loose])


def packed(**energies):
    crystals = two_sets()
    known = {
        "energies": np.concatenate([ENERGIES, ENERGIES + 0.4]),
        "relaxed_energies": np.concatenate([ENERGIES, ENERGIES]),
        "site_energies": np.random.default_rng(0).normal(-2.5, 1, len(crystals.atomic_numbers)),
    }
    return PackedCrystals(crystals, **known | energies)


def build(network, objective, seed=0):
    torch.manual_seed(seed)
    config = JepaConfig(NETWORKS[network], objective)
    return Jepa(config), JepaLoss(config)


def losses_of(model, loss, data, rows=None, seed=0):
    rows = np.arange(len(data)) if rows is None else rows
    return loss(model, data.batch(rows), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", get_args(Objective))
def test_each_encoder_learns_by_each_objective(network, objective):
    model, loss = build(network, objective)
    training = train_model(model, packed(), loss, SETTINGS)
    assert all(np.isfinite(list(row.values())).all() for row in training.curve)
    assert training.curve[-1]["loss"] < 0.8 * training.curve[0]["loss"]
    named = {
        "info-nce": {"top1"},
        "info-nce-unweighted": {"top1"},
        "sigreg": {"mse", "sigreg"},
        "energy": {"energy", "sites", "context", "contrast"},
    }[objective]
    if objective == "energy" and network == "invariant":
        named |= {"relaxed"}
    assert set(training.curve[0]) == {"step", "loss"} | named


def test_energies_are_learnt():
    """Eight crystals to within 0.1 eV/atom, as they stand and as they would be after relaxation."""
    crystals = two_sets()[[0, 2, 3, 6, 7, 9, 10, 13]]
    energies = np.array([-2.1, -3.1, -3.0, -3.5, -1.7, -2.6, -2.4, -3.2])
    relaxed = np.tile(energies[:4], 2)
    known = TrainSettings(
        steps=300, batch_size=8, warmup=10, learning_rate=1e-2, checkpoint_every=300, record_every=100
    )
    jepa, _ = CrysJepa.pretrain(
        crystals, energies, JepaConfig(TINY_INVARIANT, "energy"), known, relaxed_energies=relaxed
    )
    h = jepa.embed(crystals)
    assert np.abs(jepa.energies(h) - energies).max() < 0.1
    assert np.abs(jepa.energies(h, relaxed=True) - relaxed).max() < 0.1


@pytest.mark.parametrize("network", NETWORKS)
def test_the_energy_objective_is_the_sum_of_its_parts(network):
    model, loss = build(network, "energy")
    data = packed()
    found = losses_of(model, loss, data)
    batch = data.batch(np.arange(14))
    crystal, atoms = model.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
    expected = {
        "energy": np.mean(np.abs(model.energies(crystal).detach().numpy() - batch.energies.numpy())),
        "sites": np.mean(
            np.abs(model.energies(atoms).detach().numpy() - batch.site_energies.numpy())[batch.mask.numpy()]
        ),
    }
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5)
    share = 2 / (14 // CONTEXTS)
    total = found["energy"] + SITES * found["sites"]
    total = total + share * (RELAXED * found["context"] + CONTRAST * found["contrast"])
    if network == "invariant":
        total = total + RELAXED * found["relaxed"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-6)


def test_unknown_energies_are_left_out():
    """They change no loss and no gradient."""
    model, loss = build("invariant", "energy")
    unknown = np.arange(14) % 3 == 0
    sites = np.random.default_rng(0).normal(-2.5, 1, 34)
    missing = np.arange(34) % 2 == 0

    def gradients(fill):
        data = packed(
            energies=np.where(unknown, np.nan, -2.0),
            relaxed_energies=np.where(unknown, np.nan, -2.4),
            site_energies=np.where(missing, fill, sites),
        )
        model.zero_grad()
        found = losses_of(model, loss, data)
        found["loss"].backward()
        return found, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    found, grads = gradients(np.nan)
    assert all(torch.isfinite(v) for v in found.values())
    assert grads and all(torch.isfinite(g).all() for g in grads)
    batch = packed().batch(np.arange(14))
    crystal, atoms = model.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
    by_hand = np.abs(model.energies(crystal).detach().numpy() + 2.0)[~unknown].mean()
    assert found["energy"].item() == pytest.approx(by_hand, rel=1e-5)
    relaxed = np.abs(model.energies(model.predictor(crystal)).detach().numpy() + 2.4)[~unknown].mean()
    assert found["relaxed"].item() == pytest.approx(relaxed, rel=1e-5)
    at = model.energies(atoms).detach().numpy()[batch.mask.numpy()]
    assert found["sites"].item() == pytest.approx(np.abs(at - sites)[~missing].mean(), rel=1e-5)
    assert gradients(-7.0)[0]["sites"].item() != pytest.approx(found["sites"].item(), rel=1e-3)


def test_without_any_energy_there_is_no_loss():
    model, loss = build("invariant", "energy")
    nothing = losses_of(model, loss, PackedCrystals(two_sets()))
    assert set(nothing) == {"loss", "energy", "sites", "relaxed"}
    assert all(v.item() == 0 for v in nothing.values())
    nothing["loss"].backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("network", NETWORKS)
def test_targets_are_the_crystals_at_rest(network):
    """Those whose energy is that of their relaxed selves; what the others look like does not matter."""
    model, loss = build(network, "energy")
    energies = np.linspace(-3, -1, 14)
    rest = np.isin(np.arange(14), [3, 9, 11])
    relaxed = np.where(rest, energies, energies - 0.1)
    relaxed[0] = np.nan
    data = packed(energies=energies, relaxed_energies=relaxed)
    found = losses_of(model, loss, data)
    # two of 14 are seen a second time, and they are the first two at rest
    batch = data.batch(np.arange(14)).rows(torch.tensor([3, 9]))
    target, _ = model.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
    others = losses_of(model, loss, packed(energies=energies + 0.5 * ~rest, relaxed_energies=relaxed))
    for name in ("context", "contrast"):
        torch.testing.assert_close(found[name], others[name])
    unlike = losses_of(
        model, loss, packed(energies=energies + 0.5 * rest, relaxed_energies=relaxed + 0.5 * rest)
    )
    assert unlike["context"].item() != pytest.approx(found["context"].item(), rel=1e-3)
    if network == "invariant":  # its predictor starts as the identity: a distorted crystal is near its target
        assert found["contrast"] < info_nce(target.flip(0), target, batch.energies)
        near = mean_absolute(model.energies(target), batch.energies)
        assert found["context"].item() == pytest.approx(near.item(), abs=0.1)


def test_no_target_without_two_at_rest():
    model, loss = build("invariant", "energy")
    energies = np.linspace(-3, -1, 14)
    alone = np.where(np.arange(14) == 5, energies, energies - 0.1)
    assert "contrast" not in losses_of(model, loss, packed(energies=energies, relaxed_energies=alone))
    assert "contrast" in losses_of(model, loss, packed(energies=energies, relaxed_energies=energies))
    few = losses_of(model, loss, packed(energies=energies, relaxed_energies=energies), np.arange(11))
    assert "contrast" not in few, "a sixth of eleven is one"


def test_the_weights_of_eq_10_are_what_tells_the_two_contrastive_objectives_apart():
    model, weighted = build("transformer", "info-nce")
    _, plain = build("transformer", "info-nce-unweighted")
    data, unknown = packed(), PackedCrystals(two_sets())
    assert losses_of(model, weighted, data)["loss"] != losses_of(model, plain, data)["loss"]
    assert losses_of(model, weighted, unknown)["loss"] == losses_of(model, plain, unknown)["loss"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", get_args(Objective))
def test_losses_follow_the_noise_alone(network, objective):
    model, loss = build(network, objective)
    data = packed()
    first, again, other = (losses_of(model, loss, data, seed=s)["loss"] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
