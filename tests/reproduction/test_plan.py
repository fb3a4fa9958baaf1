"""The paper's numbers, and what becomes of them at a scale."""

import pytest
from pydantic import ValidationError

from crysjepa.generators.diffusion.generator import PAPER as DDPM
from crysjepa.jepa.network import paper_config
from crysjepa.nn.sizes import paper_part
from crysjepa.reproduction.deviations import deviations
from crysjepa.reproduction.plan import Plan, plan_for


def test_at_full_scale_the_numbers_are_the_papers():
    plan = plan_for("paper-mp20")
    assert (plan.num, plan.keep, plan.batches, plan.batch_size) == (400_000, 0.01, 10, 1000)
    assert (plan.size, plan.force_field, plan.at_least) == ("paper", "mattersim", 1)
    assert (plan.training, plan.reference, plan.hull) == ("mp_20_train", "mp_2022", "mp_2023_hull")
    other = plan_for("paper-alex-mp20")
    assert (other.num, other.keep, other.training) == (100_000, 0.05, "alex_mp_20")
    assert "chgnet" not in other.rankers, "its training set has no energies"


def test_a_scale_is_of_everything():
    plan = plan_for("paper-mp20", 1 / 64)
    assert (plan.num, plan.size, plan.batch_size) == (6250, "paper/64", 20)
    full = plan_for("paper-mp20")
    for name in ("pretrain", "train", "finetune"):
        assert getattr(plan, name).steps == pytest.approx(getattr(full, name).steps / 64, abs=1)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_no_such_scale(scale):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        plan_for("paper-mp20", scale)


def test_a_part_of_a_network_has_about_that_part_of_its_parameters():
    for part in (4, 16, 64, 256):
        for whole, own in (
            (DDPM.denoiser, DDPM.divided(part).denoiser),
            (paper_config(1).network, paper_config(part).network),
        ):
            share = own.layers * own.width**2 / (whole.layers * whole.width**2)
            assert 0.6 < share * part < 1.6
    assert DDPM.divided(1) == DDPM


@pytest.mark.parametrize("size", ["large", "paper/0", "paper/-4", "paper/2048", "Paper", "paper/"])
def test_no_such_size(size):
    with pytest.raises(ValueError, match="choose small, paper"):
        paper_part(size)


def test_the_papers_networks_only():
    values = plan_for("paper-mp20", 1 / 64).model_dump()
    with pytest.raises(ValidationError, match="the paper's networks"):
        Plan.model_validate({**values, "size": "small"})
    with pytest.raises(ValidationError, match="twice"):
        Plan.model_validate({**values, "rankers": ["random", "random"]})


def test_every_departure_is_named_with_its_reason():
    full = deviations(plan_for("paper-mp20"))
    assert all(d.paper and d.here and d.reason for d in full)
    assert not any("scale" in d.reason or "as named" in d.reason for d in full)
    small = plan_for("paper-mp20", 1 / 64).model_copy(
        update={"force_field": "chgnet", "training": "mine.cif"}
    )
    text = " ".join(" ".join(d) for d in deviations(small))
    for word in ("paper/64", "6,250", "mine.cif", "too favourable", "MatterSim"):
        assert word in text
