import pickle

import pytest
import torch

from crysjepa.nn import checkpoint


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
