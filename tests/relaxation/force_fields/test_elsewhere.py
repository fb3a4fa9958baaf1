"""A force field of another environment; here this one's interpreter plays the other's part."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_field_checks import check_force_field

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.engines import check_engine
from crysjepa.relaxation.force_fields.elsewhere import ElsewhereForceField
from crysjepa.relaxation.force_fields.messages import read, write
from crysjepa.relaxation.force_fields.registry import (
    Prediction,
    force_field_info,
    get_force_field,
    imports_of,
    require_installed,
)
from crysjepa.relaxation.force_fields.status import force_field_status
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals


def rattled() -> list[Atoms]:
    atoms = [bulk("NaCl", "rocksalt", a=5.8), bulk("MgO", "rocksalt", a=4.3, cubic=True), bulk("Si", a=5.5)]
    for seed, a in enumerate(atoms):
        a.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYSJEPA_PYTHON_CHGNET", sys.executable)


@pytest.fixture
def field(elsewhere: None) -> ElsewhereForceField:
    found = get_force_field("chgnet")
    assert isinstance(found, ElsewhereForceField)
    return found


def same(found: list[Prediction | str], expected: list[Prediction | str]) -> None:
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, str) or isinstance(b, str):
            assert a == b
            continue
        assert a.energy == pytest.approx(b.energy, abs=1e-5)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-5)
        np.testing.assert_allclose(a.stress, b.stress, atol=1e-6)


def test_same_numbers_and_reasons_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Atoms("O", cell=[20.0] * 3, pbc=True)
    atoms = [*rattled(), alone]
    here, info = get_force_field("chgnet").evaluate(atoms), force_field_info("chgnet")
    assert isinstance(here[3], str)
    monkeypatch.setenv("CRYSJEPA_PYTHON_CHGNET", sys.executable)
    field = get_force_field("chgnet")
    assert isinstance(field, ElsewhereForceField)
    same(field.evaluate(atoms), here)
    assert field.evaluate([]) == []
    assert force_field_info("chgnet") == info
    assert (field.name, field.version, field.scale) == (info.name, info.version, info.scale)
    assert imports_of("chgnet") == ()
    check_force_field(field)


def test_it_relaxes_to_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals = Crystals.from_atoms(rattled(), ["a", "b", "c"])
    settings = RelaxSettings(max_steps=5)
    here = relax_crystals(crystals, settings=settings, processes=1)
    monkeypatch.setenv("CRYSJEPA_PYTHON_CHGNET", sys.executable)
    there = relax_crystals(crystals, settings=settings, processes=1)
    assert not there.failures and there.force_field == here.force_field
    for id_, record in here.records.items():
        assert there.records[id_].energy_per_atom == pytest.approx(record.energy_per_atom, abs=1e-4)
        assert there.records[id_].steps == record.steps


def test_a_process_that_is_killed_is_started_anew(field: ElsewhereForceField) -> None:
    atoms = rattled()
    before = field.evaluate(atoms)
    assert field._process is not None
    os.kill(field._process.pid, signal.SIGKILL)
    field._process.wait()
    same(field.evaluate(atoms), before)


def test_a_crystal_that_kills_its_process_fails_alone(
    field: ElsewhereForceField, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, atoms = field._ask, rattled()
    before = field.evaluate(atoms)

    def kills(batch: list[Atoms]) -> list[Prediction | str]:
        if any("Mg" in a.symbols for a in batch):
            os.kill(field._running().pid, signal.SIGKILL)
        return ask(batch)

    monkeypatch.setattr(field, "_ask", kills)
    found = field.evaluate(atoms)
    assert (
        found[1] == f"the force field failed: RuntimeError: the process of {sys.executable} died (signal 9)"
    )
    same([found[0], found[2]], [before[0], before[2]])


def test_the_process_ends_when_nobody_asks_any_more(field: ElsewhereForceField) -> None:
    process = field._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_no_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for named in (tmp_path / "bin" / "python", tmp_path):
        monkeypatch.setenv("CRYSJEPA_PYTHON_MACE", str(named))
        with pytest.raises(ValueError, match="CRYSJEPA_PYTHON_MACE names no interpreter"):
            force_field_info("mace-omat-0")


@pytest.mark.skipif(importlib.util.find_spec("fairchem") is not None, reason="fairchem is installed")
def test_the_other_environment_lacks_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYSJEPA_PYTHON_FAIRCHEM", sys.executable)
    for ask in (require_installed, get_force_field):
        with pytest.raises(ImportError, match=r"crysjepa\[fairchem\].*\(in the environment of .*python"):
            ask("fairchem")
    (works, detail) = next(s[1:] for s in force_field_status() if s[0] == "fairchem")
    assert not works and "in the environment of" in detail


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_another_version_of_crysjepa_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = json.dumps({"crysjepa": "0.0.1", "error": None, "lacks": None})
    monkeypatch.setenv("CRYSJEPA_PYTHON_MACE", script(tmp_path, f"echo '{said}'"))
    with pytest.raises(RuntimeError, match=r"has crysjepa 0\.0\.1, and this is .*: install the same there"):
        force_field_info("mace")


def test_an_environment_without_crysjepa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolated = script(tmp_path, f'exec {sys.executable} -I -S "$@"')
    monkeypatch.setenv("CRYSJEPA_PYTHON_MACE", isolated)
    with pytest.raises(RuntimeError, match=r"cannot be asked for 'mace' .*No module named 'crysjepa'"):
        force_field_info("mace")


def test_a_checkpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYSJEPA_PYTHON_MACE", sys.executable)
    with pytest.raises(FileNotFoundError):
        force_field_info("mace@/no/such.model")


def test_torch_sim_is_not_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYSJEPA_PYTHON_SEVENNET", sys.executable)
    with pytest.raises(ValueError, match="in one environment with its force field"):
        check_engine("torch-sim", "sevennet")


def test_messages_arrive_as_they_were_sent() -> None:
    pipe = io.BytesIO()
    arrays = {"x": np.arange(6.0).reshape(2, 3).T, "n": np.array([1, 2]), "none": np.zeros((0, 3))}
    write(pipe, arrays, {"reasons": [None, "Å"]})
    whole = pipe.getvalue()
    found, said = read(io.BytesIO(whole))
    assert said == {"reasons": [None, "Å"]} and set(found) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
    for cut in (0, 3, 20, len(whole) - 1):
        with pytest.raises(EOFError):
            read(io.BytesIO(whole[:cut]))
