"""Properties by name, and functions of one's own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_crystals import table_of_formulas

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.properties import find_property, property_names
from crysjepa.properties.base import How, Measured, PropertyError

NUMBER = itertools.count()
Own = Callable[[str], str]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Writes a module, each of another name, with this text; its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"own_properties_{next(NUMBER)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return write


def function(body: str) -> str:
    """The text of a function ``f`` of a table."""
    return f"def f(table):\n    {body}\n"


def asked(name: str) -> Measured:
    return find_property(name).measure(table_of_formulas("NaCl", "Si", "Li2O"), How())


ANSWERS = {
    "list": "return [c.num_atoms[0] for c in table.crystals(table.ids)]",
    "iterator": "return (len(c.atomic_numbers) for c in table.crystals(table.ids))",
    "array": "import numpy as np\n    return np.array([2, 1, 3])",
    "Series": "import pandas as pd\n    return pd.Series([2.0, 1, 3], index=[7, 8, 9])",
    "dictionary": "return {'Li2O': 3, 'Si': 1, 'NaCl': 2, 'another': 5}",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_function_may_answer_in_any_of_these(own: Own, answer: str) -> None:
    found = asked(own(function(ANSWERS[answer])) + ":f")
    assert found.values == {"NaCl": 2, "Si": 1, "Li2O": 3} and not found.reasons


def test_its_name_is_its_source_and_its_column(own: Own) -> None:
    module = own(function("return [1.0] * len(table)"))
    one = find_property(f"{module}:f")
    assert one.column == f"{module}_f" and module in one.source and one.unit == ""
    assert not one.by_force_field and one.by_element is None


@pytest.mark.parametrize("gap", ["None", "float('nan')", "float('inf')"])
def test_what_is_no_number_is_a_gap(own: Own, gap: str) -> None:
    found = asked(own(function(f"return [1, {gap}, 3]")) + ":f")
    assert found.values == {"NaCl": 1, "Li2O": 3} and set(found.reasons) == {"Si"}
    some = asked(own(function("return {'NaCl': 1}")) + ":f")
    assert some.values == {"NaCl": 1} and set(some.reasons) == {"Si", "Li2O"}


def test_what_it_raises_costs_one_crystal_its_value(own: Own) -> None:
    text = function(
        "if 'Si' in table.ids:\n        raise KeyError('no silicon')\n    return [1] * len(table)"
    )
    found = asked(own(text) + ":f")
    assert found.values == {"NaCl": 1, "Li2O": 1}
    assert set(found.reasons) == {"Si"} and "no silicon" in found.reasons["Si"]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("[1, 2]", "2 values for 1 crystals"),
        ("5", "int"),
        ("['high'] * len(table)", "high"),
        ("None", "None"),
    ],
)
def test_an_answer_of_another_form_is_a_reason(own: Own, answer: str, word: str) -> None:
    found = asked(own(function(f"return {answer}")) + ":f")
    assert not found.values and set(found.reasons) == {"NaCl", "Si", "Li2O"}
    assert all(word in reason for reason in found.reasons.values())


def test_what_is_not_there_is_said(own: Own) -> None:
    module = own("value = 5\n")
    broken = own("raise RuntimeError('not today')\n")
    for name, word in (
        ("no_such_module:f", "no_such_module"),
        (f"{module}:f", "has no attribute"),
        (f"{module}:value", "no function of a table"),
        (f"{broken}:f", "not today"),
        ("beauty", "choose from density"),
        (":f", "choose from density"),
        (f"{module}:", "choose from density"),
        ("", "choose from density"),
    ):
        with pytest.raises(PropertyError, match=word):
            find_property(name)


def test_modules_of_the_current_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_of_here.py").write_text("def f(table):\n    return [1] * len(table)\n")
    assert set(asked("own_of_here:f").values.values()) == {1}


@pytest.mark.parametrize("name", property_names())
def test_every_name_is_a_property(name: str, salts: Crystals) -> None:
    found = find_property(name.replace("X", "Li"))
    assert found.name == name.replace("X", "Li") and found.description and found.source
    assert found.column.replace("_", "").isalnum()
    if found.by_force_field:
        return
    table = CandidateTable.from_crystals(salts.select(["NaCl", "LiF"]))
    measured = found.measure(table, How())
    assert set(measured.values) == {"NaCl", "LiF"} and not measured.reasons


def test_names_are_told_once() -> None:
    names = property_names()
    assert len(names) == len(set(names)) and {"density", "bulk_modulus", "capacity:X"} <= set(names)
