"""Narrow a trained Crys-JEPA: of each layer, keep the units that its output depends on most."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn

from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig, InvariantLayer
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.geometry import NUM_RADIAL

NUM_CRYSTALS = 600


def narrow(wide: CrysJepa, crystals: Crystals, config: JepaConfig, seed: int = 0) -> CrysJepa:
    """A model of the narrower ``config`` (of the same width D) that does nearly what ``wide`` does.

    A unit counts by how much it varies over some of the ``crystals`` times the weights that look at it; the
    mean of one that is dropped goes into the next bias.
    """
    new = config.network
    assert isinstance(new, InvariantConfig)
    some = np.random.default_rng(seed).permutation(len(crystals))[:NUM_CRYSTALS]
    seen = _activations(wide, crystals[np.sort(some)])
    state = dict(wide.model.state_dict())
    for number, layer in enumerate(wide.model.encoder.layers):
        assert isinstance(layer, InvariantLayer)
        sent, read, hidden = (seen[number, part] for part in ("send", "first", "second"))
        state |= {
            f"encoder.layers.{number}.{k}": v for k, v in _layer(layer, new, sent, read, hidden).items()
        }
    model = Jepa(config)
    model.load_state_dict(state)
    return CrysJepa(model, {**wide.origin, "narrowed_from": wide.content_hash})


def _activations(model: CrysJepa, crystals: Crystals) -> dict[tuple[int, str], Tensor]:
    """What each layer sends, and what its two linear maps read, as rows over atoms."""
    found: dict[tuple[int, str], list[Tensor]] = defaultdict(list)
    hooks = []

    def rows(x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1]).clone()

    for number, layer in enumerate(model.model.encoder.layers):

        def reads(_: nn.Module, given: tuple[Tensor, ...], key: tuple[int, str]) -> None:
            found[key].append(rows(given[0]))

        def sends(_: nn.Module, given: tuple[Tensor, ...], out: Tensor, key: tuple[int, str]) -> None:
            found[key].append(rows(out))

        for part in ("first", "second"):
            key = (number, part)
            hook = layer.get_submodule(part).register_forward_pre_hook(lambda m, g, key=key: reads(m, g, key))
            hooks.append(hook)
        key = (number, "send")
        hooks.append(layer.send.register_forward_hook(lambda m, g, o, key=key: sends(m, g, o, key)))
    model.embed(crystals)
    for hook in hooks:
        hook.remove()
    return {key: torch.cat(parts) for key, parts in found.items()}


def _layer(
    layer: InvariantLayer, new: InvariantConfig, sent: Tensor, read: Tensor, hidden: Tensor
) -> dict[str, Tensor]:
    """Weights of the narrower layer."""
    first, second = layer.first, layer.second
    channels = layer.send.out_features
    blocks = [
        mix.weight.view(-1, k, channels).square().sum(dim=(0, 1))
        for mix, k in zip(layer.mix, NUM_RADIAL, strict=True)
    ]
    kept_channels = _best(torch.stack(blocks).sum(dim=0).sqrt() * sent.std(dim=0), new.channels)
    kept_hidden = _best(hidden.std(dim=0) * second.weight.norm(dim=0), new.hidden)
    importance = read.std(dim=0) * first.weight[kept_hidden].norm(dim=0)
    start = first.in_features - sum(mix.out_features for mix in layer.mix)
    columns = [torch.arange(start)]
    state = {"send.weight": layer.send.weight[kept_channels]}
    for degree, (mix, size) in enumerate(zip(layer.mix, new.degrees, strict=True)):
        kept = _best(importance[start : start + mix.out_features], size)
        columns.append(start + kept)
        weight = mix.weight.view(mix.out_features, -1, channels)[kept][:, :, kept_channels]
        state[f"mix.{degree}.weight"] = weight.reshape(size, -1)
        if mix.bias is not None:
            state[f"mix.{degree}.bias"] = mix.bias[kept]
        start += mix.out_features
    kept_read = torch.cat(columns)
    state["first.weight"] = first.weight[kept_hidden][:, kept_read]
    state["first.bias"] = (first.bias + _missing(first.weight, read, kept_read))[kept_hidden]
    state["second.weight"] = second.weight[:, kept_hidden]
    state["second.bias"] = second.bias + _missing(second.weight, hidden, kept_hidden)
    return {name: value.detach().clone() for name, value in state.items()}


def _best(importance: Tensor, size: int) -> Tensor:
    return torch.sort(torch.topk(importance, size).indices).values


def _missing(weight: Tensor, read: Tensor, kept: Tensor) -> Tensor:
    """What the units that are dropped add on average."""
    dropped = torch.ones(weight.shape[1], dtype=torch.bool)
    dropped[kept] = False
    return weight[:, dropped] @ read[:, dropped].mean(dim=0)
