import pytest
import torch

from crysjepa.nn import transformer
from crysjepa.nn.transformer import Transformer, TransformerConfig, sinusoidal


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Transformer(TransformerConfig(layers=2, width=16, heads=4)).eval()


def test_padding_changes_nothing(network):
    x = torch.randn(3, 5, 16)
    padded = torch.cat([x, torch.randn(3, 4, 16)], dim=1)
    mask = torch.arange(9).expand(3, 9) < 5
    torch.testing.assert_close(network(padded, mask)[:, :5], network(x), atol=1e-5, rtol=1e-5)


def test_token_order_is_carried_through(network):
    x, order = torch.randn(2, 6, 16), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(network(x[:, order]), network(x)[:, order], atol=1e-5, rtol=1e-5)


def test_the_condition_reaches_every_layer(network):
    x, condition = torch.randn(1, 4, 16), torch.randn(1, 16)
    seen = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    outputs = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
    network(x, None, condition)
    torch.testing.assert_close(seen[0], x + condition[:, None])
    torch.testing.assert_close(seen[1], outputs[0] + condition[:, None])


@pytest.mark.parametrize("batch", [1, 6, 7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("conditioned", [False, True])
def test_sets_that_attend_side_by_side_do_not_see_each_other(
    network, monkeypatch, batch, masked, conditioned
):
    """As in training on a GPU, here with up to three sets of five tokens in a row; gradients too."""
    network.train()
    x = torch.randn(batch, 5, 16)
    mask = torch.arange(5) < torch.randint(1, 6, (batch, 1)) if masked else None
    condition = torch.randn(batch, 16) if conditioned else None

    def found():
        network.zero_grad()
        out = network(x, mask, condition) * (1 if mask is None else mask[..., None])
        out.square().sum().backward()
        return [out, *(p.grad.clone() for p in network.parameters())]

    alone = found()
    monkeypatch.setitem(transformer.TOGETHER, "cpu", 17)
    rows = []
    network.blocks[0].register_forward_hook(lambda module, args, out: rows.append(out.shape))
    together = found()
    assert rows == [(-(-batch // 3), 5 * min(batch, 3), 16)]
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_set_that_is_not_finite_costs_no_other(network, monkeypatch):
    monkeypatch.setitem(transformer.TOGETHER, "cpu", 17)
    x = torch.randn(3, 5, 16)
    x[1, 2] = torch.nan
    assert network(x).isfinite().all(dim=(1, 2)).tolist() == [True, False, True]


def test_width_must_divide():
    with pytest.raises(ValueError, match="multiple"):
        TransformerConfig(width=10, heads=4)


def test_paper_sizes():
    """Appendix B.3 and the parameter counts that follow from it."""
    count = {
        (8, 512): sum(p.numel() for p in Transformer(TransformerConfig(8, 512, 16)).parameters()),
        (12, 1024): sum(p.numel() for p in Transformer(TransformerConfig(12, 1024, 8)).parameters()),
    }
    assert 25e6 < count[8, 512] < 26e6 and 150e6 < count[12, 1024] < 152e6


def test_timesteps_are_told_apart():
    embedded = sinusoidal(torch.arange(1, 257), 32)
    gaps = torch.cdist(embedded, embedded) + torch.eye(256)
    assert embedded.shape == (256, 32) and gaps.min() > 1e-3
