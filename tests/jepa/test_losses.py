import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from crysjepa.jepa.losses import energy_weights, info_nce, mean_absolute, sigreg


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


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def projections(x, directions=64, seed=0):
    """What :func:`sigreg` looks at with this noise, (B, directions)."""
    a = torch.randn(x.shape[1], directions, generator=seeded(seed))
    return (x @ (a / a.norm(dim=0))).double().numpy()


SAMPLES = {
    "normal": lambda g: torch.randn(60, 5, generator=g),
    "narrow": lambda g: 0.2 * torch.randn(60, 5, generator=g),
    "wide": lambda g: 3 * torch.randn(60, 5, generator=g) + 1,
    "two points": lambda g: torch.ones(60, 5) * torch.randint(0, 2, (60, 1), generator=g) * 2 - 1,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sigreg_against_quadrature_and_the_closed_form(name):
    """∫ |φ(t) − exp(−t²/2)|² exp(−t²/2) dt / √(2π), numerically and, over all t, as sums over pairs."""
    x = SAMPLES[name](seeded(1))
    p = projections(x, directions=4)

    def integrand(t, column):
        phi = np.exp(1j * t * column).mean()
        return abs(phi - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)

    numeric = [quad(integrand, -3, 3, args=(column,), epsabs=1e-10, limit=200)[0] for column in p.T]
    fine = float(sigreg(x, seeded(), directions=4, points=2001))
    assert fine == pytest.approx(np.mean(numeric), rel=1e-4, abs=1e-7)
    closed = [
        np.exp(-((c[:, None] - c[None]) ** 2) / 2).mean()
        - math.sqrt(2) * np.exp(-(c**2) / 4).mean()
        + 1 / math.sqrt(3)
        for c in p.T
    ]
    everywhere = float(sigreg(x, seeded(), directions=4, points=2001, reach=9.0))
    assert everywhere == pytest.approx(np.mean(closed), rel=1e-4, abs=1e-6)
    # as it is used: few points, and the tails left out
    assert float(sigreg(x, seeded(), directions=4)) == pytest.approx(np.mean(closed), rel=0.1)


def test_sigreg_is_small_for_a_normal_sample_and_large_for_a_collapsed_one():
    normal = torch.randn(4096, 16, generator=seeded(5))
    assert float(sigreg(normal, seeded())) < 1e-3
    collapsed = float(sigreg(torch.zeros(64, 16), seeded()))
    assert collapsed == pytest.approx(1 - math.sqrt(2) + 1 / math.sqrt(3), rel=0.03)  # tails
    assert float(sigreg(torch.full((64, 16), 20.0), seeded())) > 4 * collapsed


@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.0), (3.0, 0.0), (1.0, 1.0), (1.0, -1.0)])
def test_descending_sigreg_leads_to_mean_zero_and_variance_one(scale, shift):
    x = (scale * torch.randn(512, 8, generator=seeded(1)) + shift).requires_grad_()
    sigreg(x, seeded(), directions=256).backward()
    if shift:
        assert float(x.grad.mean()) * shift > 0, "the mean goes to zero"
    else:
        assert float((x.grad * x.detach()).mean()) * (scale - 1) > 0, "the variance goes to one"


def test_sigreg_draws_its_directions_from_the_noise_and_stays_float32():
    x = torch.randn(32, 8, generator=seeded(1)) ** 3
    assert torch.equal(sigreg(x, seeded(1)), sigreg(x, seeded(1)))
    assert not torch.equal(sigreg(x, seeded(1)), sigreg(x, seeded(2)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sigreg(x, seeded(1)), sigreg(x, seeded(1)))
        found = sigreg(x, seeded(1))
    assert found.dtype == torch.float32 and torch.equal(found, sigreg(x, seeded(1)))


def test_mean_absolute_leaves_out_the_unknown():
    predicted = torch.tensor([1.0, 2.0, -3.0, 5.0], requires_grad=True)
    true = torch.tensor([0.0, float("nan"), -3.5, float("nan")])
    loss = mean_absolute(predicted, true)
    assert loss.item() == pytest.approx((1.0 + 0.5) / 2)
    loss.backward()
    assert predicted.grad.tolist() == [0.5, 0, 0.5, 0]
    table = torch.tensor([[1.0, 2.0], [-3.0, 5.0]])
    torch.testing.assert_close(mean_absolute(table, true.reshape(2, 2)), loss.detach())


def test_mean_absolute_of_nothing_known_is_zero():
    predicted = torch.randn(3, requires_grad=True)
    loss = mean_absolute(predicted, torch.full((3,), float("nan")))
    loss.backward()
    assert loss.item() == 0 and torch.equal(predicted.grad, torch.zeros(3))


def test_hopeless_crystals_weigh_less():
    """1 up to 0.3 eV/atom, then 1 / (1 + 2 (E − 0.3)); the mean is still over their number."""
    for energy, weight in ((-4.0, 1.0), (0.3, 1.0), (0.8, 0.5), (2.8, 1 / 6)):
        true = torch.tensor([energy, 0.0])
        assert float(mean_absolute(true + torch.tensor([0.6, 0]), true)) == pytest.approx(
            0.3 * weight, rel=1e-5
        )
