"""Crystals that are held out, and when training ends for it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.training import TrainSettings, train_model
from crysjepa.nn.validation import held_out

SETTINGS = TrainSettings(
    steps=40, batch_size=2, warmup=1, checkpoint_every=4, record_every=4, learning_rate=0.05, validation=0.3,
    ema_decay=0.0, weight_decay=0.0, final_learning_rate=1.0,
)  # fmt: skip


@pytest.fixture
def data(salts):
    return PackedCrystals(salts, np.linspace(-3, 1, 7))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
)
def test_no_system_is_on_both_sides(systems, share, seed):
    systems = np.array(systems)
    held = held_out(systems, share, seed)
    assert not set(systems[held]) & set(systems[~held])
    assert held.sum() >= share * len(systems)
    largest = max(np.unique(systems, return_counts=True)[1])
    assert held.sum() <= share * len(systems) + largest
    assert (held == held_out(systems, share, seed)).all()


def test_what_is_held_out_is_not_trained_on(data):
    seen = {True: set(), False: set()}

    def loss(model, batch, noise):
        seen[model.training] |= set(batch.energies.tolist())
        return {"loss": (model(batch.energies[:, None]) ** 2).mean()}

    done = train_model(nn.Linear(1, 1), data, loss, SETTINGS, seed=3)
    assert not seen[True] & seen[False]
    assert seen[True] | seen[False] == set(data._energies.tolist())
    assert all("validation_loss" in row for row in done.curve)


class Grown(nn.Module):
    """A number that training only makes larger."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))


def best_at_half(model, batch, noise):
    """Seen crystals want more of it, others one half."""
    return {"loss": -model.value if model.training else (model.value - 0.5) ** 2}


def test_patience_ends_it_with_the_best_weights(data):
    settings = SETTINGS.model_copy(update={"patience": 2})
    done = train_model(Grown(), data, best_at_half, settings, seed=3)
    losses = [row["validation_loss"] for row in done.curve]
    best = int(np.argmin(losses))
    assert done.step < settings.steps and len(losses) == best + 3
    assert (float(done.ema.value) - 0.5) ** 2 == pytest.approx(losses[best])
    without = train_model(Grown(), data, best_at_half, SETTINGS, seed=3)
    assert without.step == settings.steps and float(without.ema.value) > 1


@pytest.mark.parametrize("killed_at", [9, 12, 16])
def test_a_killed_training_ends_as_early(data, tmp_path, killed_at):
    settings = SETTINGS.model_copy(update={"patience": 2})
    whole = train_model(Grown(), data, best_at_half, settings, seed=3)

    def progress(done, total):
        if done == killed_at:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    if killed_at <= whole.step:
        with pytest.raises(KeyboardInterrupt):
            train_model(Grown(), data, best_at_half, settings, seed=3, state=state, progress=progress)
    resumed = train_model(Grown(), data, best_at_half, settings, seed=3, state=state)
    assert resumed.curve == whole.curve and float(resumed.ema.value) == float(whole.ema.value)
    again = train_model(Grown(), data, best_at_half, settings, seed=3, state=state)
    assert again.curve == whole.curve and float(again.ema.value) == float(whole.ema.value)


def test_each_record_is_told(data):
    told = []
    done = train_model(Grown(), data, best_at_half, SETTINGS, seed=3, recorded=told.append)
    assert told == done.curve and len(told) == 10


def test_patience_without_validation_is_refused():
    with pytest.raises(ValidationError, match="set validation"):
        TrainSettings(patience=3)


def test_everything_held_out_is_refused(salts):
    with pytest.raises(ValueError, match="leaves no crystal"):
        train_model(Grown(), PackedCrystals(salts[:1], np.zeros(1)), best_at_half, SETTINGS, seed=3)
