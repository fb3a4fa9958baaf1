import pickle

import pytest
import torch

from crysjepa.generators.diffusion.generator import DiffusionGenerator
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.nn import checkpoint
from crysjepa.weights import shipped


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "x.safetensors"
    checkpoint.save(
        path, {"a": torch.arange(3.0), "b": torch.ones(2).bfloat16()}, {"kind": "k", "n": [1, None]}
    )
    tensors, header = checkpoint.load(path, kind="k")
    assert torch.equal(tensors["a"], torch.arange(3.0)) and tensors["b"].dtype == torch.float32
    assert header == {"kind": "k", "n": [1, None]}


def test_another_kind_is_refused(tmp_path):
    checkpoint.save(tmp_path / "x", {"a": torch.ones(1)}, {"kind": "k"})
    with pytest.raises(checkpoint.CheckpointError, match="'k', not 'other'"):
        checkpoint.load(tmp_path / "x", kind="other")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load(tmp_path / "x", kind="k")
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load(tmp_path / "missing", kind="k")


def test_settings_are_compared_with_weights_before_memory_is_taken():
    weights = torch.nn.Linear(3, 2).state_dict()

    def build(width):
        return lambda: torch.nn.Linear(3, width)

    network = checkpoint.filled(build(2), weights, {"width": 2, "layers": 1})
    assert torch.equal(network.weight, weights["weight"])
    for width, settings, reason in [
        (10**13, {"network": {"width": 10**13}}, "width = 10000000000000, with 2 tensors of 8 numbers"),
        (2, {"layers": 100}, "layers = 100, with 2 tensors"),
        (90_000, {"width": 90_000}, r"bias is of shape \(2,\), its settings say \(90000,\)"),
    ]:
        with pytest.raises(checkpoint.CheckpointError, match=reason):
            checkpoint.filled(build(width), weights, settings)
    with pytest.raises(checkpoint.CheckpointError, match=r"weight is of shape None, its settings say"):
        checkpoint.filled(build(2), {"bias": weights["bias"]}, {})
    weights["bias"][0] = float("nan")
    with pytest.raises(checkpoint.CheckpointError, match="bias holds a number that is not finite"):
        checkpoint.filled(build(2), weights, {})


def test_the_reason_names_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    missing = pytest.raises(checkpoint.CheckpointError, match=r"x\.safetensors .*'config' is missing")
    with missing, checkpoint.explained(path):
        {}["config"]
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"), checkpoint.explained(path):
        raise checkpoint.CheckpointError("no")


@pytest.mark.parametrize("name, load", [("jepa", CrysJepa.load), ("generator", FlowGenerator.load),
                                        ("ddpm", DiffusionGenerator.load)])  # fmt: skip
def test_damaged_copies_of_the_shipped_models_are_refused(tmp_path, name, load):
    source, path = shipped(name), tmp_path / "damaged.safetensors"
    header = checkpoint.read_header(source)
    tensors, _ = checkpoint.load(source, kind=header["kind"])
    settings = header["config"]
    inner = next((settings[k] for k in ("network", "denoiser") if k in settings), settings)

    def refused(weights, changed):
        checkpoint.save(path, weights, changed)
        with pytest.raises(checkpoint.CheckpointError, match=r"damaged\.safetensors"):
            load(path)

    refused({k: v for i, (k, v) in enumerate(tensors.items()) if i}, header)
    refused(tensors | {k: torch.zeros(3, 5, 7) for k in list(tensors)[:1]}, header)
    refused(tensors, {k: v for k, v in header.items() if k != "config"})
    refused(tensors, header | {"origin": None})
    before = dict(inner)
    for key, value in [
        ("width", 10**9),
        ("layers", 10**9),
        ("width", 96_000),
        ("layers", -1),
        ("width", "x"),
    ]:
        inner.update(before | {key: value})
        refused(tensors, header)
