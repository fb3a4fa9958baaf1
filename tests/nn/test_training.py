import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.training import TrainSettings, learning_rate_at, train_model

SETTINGS = TrainSettings(
    steps=12, batch_size=3, warmup=2, checkpoint_every=4, record_every=2, learning_rate=0.05
)


def toy():
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def loss(model, batch, noise):
    """Fit the mean of the lattice trace to the energy, with a little noise."""
    x = batch.lattices.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True)
    x = x + 0.01 * torch.randn(x.shape, generator=noise)
    return {"loss": ((model(x)[:, 0] - batch.energies) ** 2).mean()}


class Killed(Exception):
    pass


def kill_at(step):
    def progress(done, total):
        if done == step:
            raise Killed

    return progress


@pytest.fixture
def data(salts):
    return PackedCrystals(salts, np.linspace(-3, 1, 7))


def weights(training):
    return [p.tolist() for m in (training.model, training.ema) for p in m.parameters()]


@pytest.mark.parametrize("killed_at", [3, 4, 9, 12])
def test_a_killed_training_ends_where_an_unbroken_one_does(data, tmp_path, killed_at):
    whole = train_model(toy(), data, loss, SETTINGS, seed=5)
    state = tmp_path / "state"
    with pytest.raises(Killed):
        train_model(toy(), data, loss, SETTINGS, seed=5, state=state, progress=kill_at(killed_at))
    resumed = train_model(toy(), data, loss, SETTINGS, seed=5, state=state)
    assert weights(resumed) == weights(whole)
    assert resumed.curve == whole.curve and resumed.step == 12
    assert weights(train_model(toy(), data, loss, SETTINGS, seed=5, state=state)) == weights(whole)


def with_dropout():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.3), nn.Linear(8, 1))


@pytest.mark.parametrize("killed_at", [4, 9])
def test_dropout_resumes_on_the_same_path(data, tmp_path, killed_at):
    whole = train_model(with_dropout(), data, loss, SETTINGS, seed=5)
    state = tmp_path / "state"
    with pytest.raises(Killed):
        train_model(with_dropout(), data, loss, SETTINGS, seed=5, state=state, progress=kill_at(killed_at))
    model = with_dropout()
    torch.rand(killed_at)  # wherever the caller's stream happens to be
    resumed = train_model(model, data, loss, SETTINGS, seed=5, state=state)
    assert weights(resumed) == weights(whole) and resumed.curve == whole.curve
    without = with_dropout()
    without[1] = nn.Identity()
    assert weights(train_model(without, data, loss, SETTINGS, seed=5)) != weights(whole)


def test_the_random_stream_of_the_caller_is_untouched(data):
    drawn = []

    def drawing(model, batch, noise):
        drawn.append(float(torch.rand(())))
        return loss(model, batch, noise)

    model = toy()
    before = torch.get_rng_state()
    train_model(model, data, drawing, SETTINGS, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn)) == SETTINGS.steps  # every step draws something else
    with pytest.raises(Killed):
        train_model(model, data, drawing, SETTINGS, seed=5, progress=kill_at(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn[12:] == drawn[:3]


def test_the_loss_goes_down_and_seeds_matter(data):
    done = train_model(toy(), data, loss, SETTINGS, seed=5)
    assert done.curve[-1]["loss"] < done.curve[0]["loss"]
    assert weights(done) != weights(train_model(toy(), data, loss, SETTINGS, seed=6))


def test_a_loss_that_only_some_steps_have_is_averaged_over_these(data):
    """The curve is a mean, not a share."""
    seen = []

    def now_and_then(model, batch, noise):
        found = loss(model, batch, noise)
        seen.append(found["loss"].item())
        return found | ({"rare": torch.tensor(2.0)} if len(seen) % 4 == 1 else {})

    done = train_model(toy(), data, now_and_then, SETTINGS, seed=5)
    assert [row.get("rare") for row in done.curve] == [2.0, None] * 3
    assert [row["loss"] for row in done.curve] == pytest.approx(np.mean(np.reshape(seen, (6, 2)), axis=1))


def test_a_state_of_another_training_is_refused(data, salts, tmp_path):
    state = tmp_path / "state"
    train_model(toy(), data, loss, SETTINGS, seed=5, state=state)
    with pytest.raises(ValueError, match="another training"):
        train_model(toy(), data, loss, SETTINGS, seed=6, state=state)
    with pytest.raises(ValueError, match="another training"):
        train_model(toy(), PackedCrystals(salts[:5], np.zeros(5)), loss, SETTINGS, seed=5, state=state)


@dataclass(frozen=True)
class Scaled:
    scale: float

    def __call__(self, model, batch, noise):
        return {"loss": self.scale * loss(model, batch, noise)["loss"]}


def other_loss(model, batch, noise):
    return loss(model, batch, noise)


def test_weights_energies_and_loss_are_part_of_what_a_state_belongs_to(data, salts, tmp_path):
    state = tmp_path / "state"
    done = train_model(toy(), data, Scaled(1.0), SETTINGS, seed=5, state=state)
    torch.manual_seed(1)
    other = nn.Linear(1, 1)
    refused = "another training .other {}.: delete the file .* or choose another output"
    with pytest.raises(ValueError, match=refused.format("initial weights")):
        train_model(other, data, Scaled(1.0), SETTINGS, seed=5, state=state)
    for energies in (np.linspace(-3, 2, 7), None):
        with pytest.raises(ValueError, match=refused.format("energies")):
            train_model(toy(), PackedCrystals(salts, energies), Scaled(1.0), SETTINGS, seed=5, state=state)
    for another in (Scaled(2.0), loss):
        with pytest.raises(ValueError, match=refused.format("loss")):
            train_model(toy(), data, another, SETTINGS, seed=5, state=state)
    same = PackedCrystals(salts, np.linspace(-3, 1, 7))
    again = train_model(toy(), same, Scaled(1.0), SETTINGS, seed=5, state=state)
    assert weights(again) == weights(done)


def test_a_function_as_loss_is_known_by_its_name(data, tmp_path):
    state = tmp_path / "state"
    train_model(toy(), data, loss, SETTINGS, seed=5, state=state)
    with pytest.raises(ValueError, match="other loss"):
        train_model(toy(), data, other_loss, SETTINGS, seed=5, state=state)


def test_weights_of_any_type_and_shape_are_told_apart(data, tmp_path):
    """Scalars, integers and bfloat16 count among the initial weights."""

    def model(counter, scalar):
        made = toy()
        made.register_buffer("counter", torch.tensor(counter))
        made.register_buffer("scalar", torch.tensor(scalar, dtype=torch.bfloat16))
        return made

    state = tmp_path / "state"
    train_model(model(1, 0.5), data, loss, SETTINGS, seed=5, state=state)
    train_model(model(1, 0.5), data, loss, SETTINGS, seed=5, state=state)
    for other in (model(2, 0.5), model(1, 0.25)):
        with pytest.raises(ValueError, match="other initial weights"):
            train_model(other, data, loss, SETTINGS, seed=5, state=state)


def test_learning_rate():
    settings = TrainSettings(steps=110, warmup=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate_at(s, settings) for s in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)


def test_settings_are_checked(data, salts):
    with pytest.raises(ValidationError, match="multiple"):
        TrainSettings(checkpoint_every=75, record_every=50)
    with pytest.raises(ValueError, match="no crystals"):
        train_model(toy(), PackedCrystals(salts[:0]), loss, SETTINGS)


ALLOCATION = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "1", "SLURM_NODELIST": "node[1-2]",
    "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_STEP_NUM_TASKS": "4",
}  # fmt: skip


@pytest.mark.parametrize("allocated", [False, True], ids=["login node", "in an allocation"])
def test_training_takes_no_notice_of_slurm(data, tmp_path, monkeypatch, allocated):
    """Fabric by itself warns of an srun that is not used, and takes Slurm's ranks for its own."""
    at_home = train_model(toy(), data, loss, SETTINGS, seed=5)
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    for name, value in ALLOCATION.items() if allocated else ():
        monkeypatch.setenv(name, value)
    state = tmp_path / "state"
    there = train_model(toy(), data, loss, SETTINGS, seed=5, state=state)
    assert weights(there) == weights(at_home) and there.curve == at_home.curve
    assert state.exists(), "the process that keeps the state is this one"
