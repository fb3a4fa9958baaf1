import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.core.chemical_systems import keys_of_names
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.reference_index import ReferenceIndex

ELEMENTS = ["Cl", "K", "Li", "Na", "O"]


def random_index(seed, num=30):
    rng = np.random.default_rng(seed)
    systems = ["-".join(sorted(rng.choice(ELEMENTS, rng.integers(1, 4), replace=False))) for _ in range(num)]
    embeddings = rng.normal(3, 1, (num, 8)).astype(np.float32)
    index = ReferenceIndex.of([f"r{i}" for i in range(num)], systems, embeddings, "key")
    return rng, systems, embeddings, index


@settings(deadline=None)  # the first is compiled
@given(seed=st.integers(0, 2**32 - 1))
def test_closed_form_equals_eq_11_written_out(seed):
    rng, systems, embeddings, index = random_index(seed)
    h = rng.normal(size=8).astype(np.float32)
    inside = [e for e, s in zip(embeddings, systems, strict=True) if set(s.split("-")) <= {"K", "Li", "O"}]
    wanted = keys_of_names(["K-Li-O"])
    found = index.mean_square(h[None], wanted)
    assert index.num_references(wanted).tolist() == [len(inside)]
    if inside:
        plain = np.mean([((h.astype(float) - r.astype(float)) ** 2).sum() for r in inside])
        assert found == pytest.approx([plain], rel=1e-9)
    else:
        assert np.isnan(found).all()


@settings(deadline=None)  # the first is compiled
@given(seed=st.integers(0, 2**32 - 1))
def test_support_is_the_distance_to_the_nearest_of_system_and_subsystems(seed):
    rng, systems, embeddings, index = random_index(seed)
    h = rng.normal(3, 1, (4, 8)).astype(np.float32)
    h[0] = embeddings[0]
    for wanted in ("Na", "Cl-O", "K-Li-O", "Cl-K-Li-Na-O"):
        inside = [
            e for e, s in zip(embeddings, systems, strict=True) if set(s.split("-")) <= set(wanted.split("-"))
        ]
        found = index.support(h, keys_of_names([wanted] * 4))
        if not inside:
            assert np.isnan(found).all()
            continue
        plain = [min(np.linalg.norm(x.astype(float) - r) for r in inside) for x in h]
        assert found == pytest.approx(plain, rel=1e-6)
    assert found[0] == 0


def test_a_copy_of_the_only_reference_is_at_distance_zero():
    r = np.full((1, 4), 1234.5, dtype=np.float32)
    index = ReferenceIndex.of(("r",), ("Na",), r, "key")
    sodium = keys_of_names(["Na"])
    assert 0 <= index.mean_square(r, sodium)[0] == pytest.approx(0, abs=1e-6)
    assert index.support(r, sodium) == [0]


def test_nearest_looks_in_the_own_system_first():
    embeddings = np.array([[0.0], [5.0], [1.0], [1.0]], dtype=np.float32)
    index = ReferenceIndex.of(
        ("element", "far", "twin", "other"), ("Na", "Cl-Na", "K", "K"), embeddings, "key"
    )
    near = index.nearest(np.zeros(1, dtype=np.float32), "Cl-Na")
    assert near is not None and (near.id, near.distance) == ("far", 5.0)
    assert index.support(np.zeros((1, 1), dtype=np.float32), keys_of_names(["Cl-Na"])) == [0]
    alone = index.nearest(np.zeros(1, dtype=np.float32), "Na-O")
    assert alone is not None and alone.id == "element"
    assert index.nearest(np.zeros(1, dtype=np.float32), "O") is None
    assert index.nearest(np.zeros(1, dtype=np.float32), "K").id == "other", "of equals, the first by name"


def model(seed):
    torch.manual_seed(seed)
    return JepaEmbedder(CrysJepa(Jepa(JepaConfig(TransformerConfig(layers=1, width=16, heads=2)))))


def test_an_index_is_kept_for_its_model_and_data(salts, tmp_path):
    first, second = model(0), model(1)
    cache = tmp_path / "index"
    built = ReferenceIndex.build(first, salts, cache=cache)
    assert not built.embeddings.flags.writeable and not built.embeddings.flags.owndata, "mapped, not read"
    written = cache.read_bytes()
    again = ReferenceIndex.build(first, salts, cache=cache)
    assert cache.read_bytes() == written and again.ids == built.ids and again.systems == built.systems
    np.testing.assert_array_equal(again.embeddings, ReferenceIndex.build(first, salts).embeddings)
    other = ReferenceIndex.build(second, salts, cache=cache)
    assert other.key != built.key and not np.array_equal(other.embeddings, again.embeddings)
    with pytest.raises(ValueError, match="no crystals"):
        ReferenceIndex.build(first, salts[:0])


def test_a_folder_keeps_an_index_for_each_model(salts, tmp_path):
    for _ in range(2):
        for embedder in (model(0), model(1)):
            ReferenceIndex.build(embedder, salts, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_file_is_never_written_over(salts, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("precious")
    with pytest.raises(ValueError, match="not a reference index"):
        ReferenceIndex.build(model(0), salts, cache=path)
    assert path.read_text() == "precious"
    batch = pa.record_batch({"x": [1]}).replace_schema_metadata({"crysjepa": '{"kind": "soup"}'})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="soup"):
        ReferenceIndex.read(path)


def test_what_cannot_be_embedded_is_told(salts, tmp_path):
    heavy = salts[:2]
    heavy.atomic_numbers[0] = 110
    index = ReferenceIndex.build(model(0), heavy, cache=tmp_path / "index")
    assert (
        index.ids == ("KCl",)
        and "110" in index.skipped["NaCl"]
        and index.num_references(keys_of_names(["Cl-K"])) == [1]
    )
    with pytest.raises(ValueError, match="110"):
        ReferenceIndex.build(model(0), heavy[:1])


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-700] + b"?" + b[-699:]]
)
def test_a_damaged_index_is_no_other_index(salts, tmp_path, damage):
    """The error names it, and it is left as it is."""
    rng = np.random.default_rng(0)
    index = ReferenceIndex.of(
        salts.ids, salts.chemical_systems(), rng.random((len(salts), 64), dtype=np.float32), "k"
    )
    path = tmp_path / "index.arrow"
    index.write(path)
    assert ReferenceIndex.read(path).digest == index.digest
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="delete it to have it made anew"):
        ReferenceIndex.read(path)
    assert path.read_bytes() == damaged


def test_a_folder_of_ours_mends_itself(salts, tmp_path):
    """What is damaged, or of another model under this one's name, is made anew."""
    wanted = ReferenceIndex.build(model(0), salts, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    other = ReferenceIndex.build(model(1), salts)
    for spoil in (lambda: path.write_bytes(whole[:100]), lambda: other.write(path)):
        spoil()
        again = ReferenceIndex.build(model(0), salts, cache=tmp_path)
        assert again.key == wanted.key and path.read_bytes() == whole
