import math

import pytest
import torch

from crysjepa.jepa.losses import energy_weights, info_nce


def test_weights_of_eq_10():
    weights = energy_weights(torch.tensor([0.0, 0.0, -1.0, float("nan")]))
    assert torch.equal(weights.diagonal(), torch.ones(4))
    assert weights[0, 1] == 0
    assert math.isclose(float(weights[0, 2]), 1 - math.exp(-1), rel_tol=1e-6)
    assert weights[0, 3] == 1 and weights[3, 2] == 1
    torch.testing.assert_close(weights, weights.T)


def test_loss_of_eq_9_written_out():
    torch.manual_seed(0)
    p, h, e, tau = torch.randn(5, 8), torch.randn(5, 8), torch.randn(5), 0.2
    total = 0.0
    for i in range(5):
        similar = [float(p[i] @ h[k] / (p[i].norm() * h[k].norm())) for k in range(5)]
        weight = [1.0 if k == i else 1 - math.exp(-abs(float(e[i] - e[k]))) for k in range(5)]
        below = sum(math.exp(weight[k] * similar[k] / tau) for k in range(5))
        total -= math.log(math.exp(similar[i] / tau) / below) / 5
    assert math.isclose(float(info_nce(p, h, e, temperature=tau)), total, rel_tol=1e-5)


def test_without_energies_all_negatives_weigh_the_same():
    torch.manual_seed(0)
    p, h = torch.randn(5, 8), torch.randn(5, 8)
    unknown = torch.full((5,), float("nan"))
    torch.testing.assert_close(info_nce(p, h), info_nce(p, h, unknown))


def test_energies_decide_how_much_a_look_alike_costs():
    """A negative with the same embedding costs less when its energy is the same."""
    h = torch.ones(2, 4)
    same, apart = torch.tensor([0.0, 0.0]), torch.tensor([0.0, 3.0])
    assert info_nce(h, h, same) < info_nce(h, h, apart)


@pytest.mark.parametrize("energies", [None, torch.linspace(-1, 1, 6)])
def test_similarities_are_float32_under_autocast(energies):
    """Embeddings closer to one another than bfloat16 can tell."""
    torch.manual_seed(0)
    h = torch.ones(6, 16) + 0.02 * torch.randn(6, 16)
    p = h + 0.005 * torch.randn(6, 16)
    exact, halved = info_nce(p, h, energies), info_nce(p.bfloat16().float(), h.bfloat16().float(), energies)
    assert exact > 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(p, h, energies), exact)
        assert torch.equal(info_nce(p.bfloat16(), h.bfloat16(), energies), halved)
