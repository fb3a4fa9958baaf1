"""What a release consists of: one version, one list of dependencies, repositories that can be read."""

import re
import tomllib
from pathlib import Path

import hugging_face
import pandas as pd
import yaml

import crysjepa
from crysjepa import datasets
from crysjepa.nn.checkpoint import read_header

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "lightning-fabric": "lightning"}


def recipe():
    return yaml.safe_load((ROOT / "packaging" / "recipe.yaml").read_text(encoding="utf-8"))


def test_all_files_have_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.search(
        r"^## (\d\S*?)[,\s]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert changes is not None
    told = {citation["version"], recipe()["context"]["version"], changes.group(1)}
    assert told == {crysjepa.__version__}


def test_the_recipe_needs_what_the_package_needs():
    wanted = {"python": ">=${{ python_min }}"}
    for line in PROJECT["dependencies"]:
        name, version = re.fullmatch(r"([\w-]+)(.*)", line).groups()
        wanted[CONDA.get(name, name)] = version
    found = dict(line.split(" ", 1) for line in recipe()["requirements"]["run"])
    assert found == wanted


def test_constraints_name_every_dependency_once():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names))
    assert {re.match(r"[\w-]+", line).group().lower() for line in PROJECT["dependencies"]} <= set(names)


def test_repositories_of_the_hub_can_be_used_as_they_are(tmp_path):
    for path in hugging_face.write(tmp_path):
        assert path.stat().st_size > 100
    for folder in ("model", "dataset"):
        card = (tmp_path / folder / "README.md").read_text(encoding="utf-8")
        header = yaml.safe_load(card.split("---")[1])
        assert header["license"] and header["tags"]
        assert not re.search(r"\]\((?!https?://)", card)
        for file in (c["data_files"] for c in header.get("configs", ())):
            assert len(pd.read_parquet(tmp_path / folder / file))
    for name in hugging_face.MODELS:
        assert read_header(tmp_path / "model" / f"{name}.safetensors") == read_header(
            hugging_face.WEIGHTS / f"{name}.safetensors"
        )
    known = datasets.load(tmp_path / "dataset" / "known.parquet")
    assert known.content_hash() == datasets.load("known").content_hash()
