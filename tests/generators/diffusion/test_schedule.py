import math

import pytest
import torch

from crysjepa.generators.diffusion.schedule import Schedule


def test_cosine_schedule():
    """ᾱ_t of Nichol & Dhariwal, wherever β is not clipped; ᾱ falls from about 1 to about 0."""
    schedule = Schedule.cosine(256)
    t = torch.arange(1, 257, dtype=torch.float64)
    exact = (
        torch.cos((t / 256 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    torch.testing.assert_close(schedule.alpha_bar[:-1].double(), exact[:-1], atol=1e-6, rtol=1e-4)
    assert len(schedule) == 256 and schedule.beta.max() <= 0.999
    assert (schedule.beta[1:] > schedule.beta[:-1]).all(), "β_1 < … < β_T (Eq. 17)"
    assert schedule.alpha_bar[0] > 0.999 and schedule.alpha_bar[-1] < 1e-4


def test_one_step_of_noise_after_another_gives_eq_17():
    """Composing q(x_t | x_{t−1}) t times has the mean √ᾱ_t x_0 and variance 1 − ᾱ_t."""
    schedule = Schedule.cosine(64)
    mean, variance = 1.0, 0.0
    for t in range(1, 41):
        keep = 1 - float(schedule.beta[t - 1])
        mean, variance = mean * math.sqrt(keep), variance * keep + 1 - keep
    signal, noise = schedule.levels(torch.tensor([40]))
    assert float(signal) == pytest.approx(mean, rel=1e-4)
    assert float(noise) ** 2 == pytest.approx(variance, rel=1e-4)


def test_the_way_back_is_the_posterior():
    """Eq. 20 equals the mean and variance of q(x_{t−1} | x_t, x_0) by Bayes' rule for Gaussians."""
    schedule = Schedule.cosine(64)
    x0, noise = torch.randn(1, 5, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64)
    for t in (2, 20, 60):
        x = schedule.diffuse(x0, noise, torch.tensor([t]))
        beta, before = float(schedule.beta[t - 1]), float(schedule.alpha_bar_previous[t - 1])
        precision = 1 / (1 - before) + (1 - beta) / beta
        mean = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(1 - beta) / beta * x) / precision
        drawn = [schedule.step_back(x, noise, t, torch.full_like(x, z)) for z in (0.0, 1.0)]
        torch.testing.assert_close(drawn[0], mean, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            drawn[1] - drawn[0], torch.full_like(x, precision**-0.5), atol=1e-4, rtol=1e-4
        )


def test_the_last_step_adds_no_noise():
    schedule = Schedule.cosine(64)
    x = torch.randn(2, 3)
    a, b = (schedule.step_back(x, x * 0.1, 1, torch.randn(2, 3)) for _ in range(2))
    assert torch.equal(a, b)


def test_perfect_noise_leads_back_to_the_start():
    schedule = Schedule.cosine(64)
    x0 = torch.randn(4, 3)
    x = schedule.diffuse(x0, torch.randn(4, 3), torch.full((4,), 64))
    for t in range(64, 0, -1):
        signal, level = schedule.levels(torch.tensor([t]))
        x = schedule.step_back(x, (x - signal * x0) / level, t, torch.randn(4, 3))
    torch.testing.assert_close(x, x0, atol=1e-3, rtol=1e-3)


def test_what_x0_can_be_holds_errors_of_the_noise():
    """At t = T an error of a hundredth in the noise would be a crystal of no size."""
    schedule = Schedule.cosine(64)
    x0, noise, t = torch.tensor([[-1.0, 0.2, 1.0]]), torch.tensor([[0.3, -0.4, 0.1]]), torch.tensor([64])
    x, fresh = schedule.diffuse(x0, noise, t), torch.zeros(1, 3)
    exact = schedule.step_back(x, noise, 64, fresh)
    torch.testing.assert_close(
        schedule.step_back(x, noise, 64, fresh, (-1.001, 1.001)), exact, rtol=0, atol=1e-3
    )
    off = noise + 0.01
    wild, held = (schedule.step_back(x, off, 64, fresh, within) for within in (None, (-1.0, 1.0)))
    assert (wild - exact).abs().max() > 5 * (held - exact).abs().max()
