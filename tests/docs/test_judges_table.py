"""docs/judges.md says what the code knows, and the weights are those that it names."""

from __future__ import annotations

import hashlib
from importlib import metadata

import judges_table
import pytest

from crysjepa.relaxation.force_fields.entries import ENTRIES
from crysjepa.relaxation.force_fields.provenance import PROVENANCE, packaged_weights


def test_the_page_is_what_the_code_makes_of_it() -> None:
    page, results = (p.read_text(encoding="utf-8") for p in (judges_table.PAGE, judges_table.RESULTS))
    assert judges_table.renewed(page, results) == page, "python tools/judges_table.py writes it anew"


def test_every_force_field_with_a_name_is_there() -> None:
    assert list(PROVENANCE) == list(ENTRIES)
    for name, entry in ENTRIES.items():
        made = PROVENANCE[name]
        assert (made.sha256 is None) == (entry.file is not None)
        if entry.file is not None:
            assert made.weights.startswith("https://") and made.weights.endswith(f"/{entry.file}")


@pytest.mark.parametrize("name", [name for name, made in PROVENANCE.items() if made.sha256 is not None])
def test_the_weights_are_those_of_the_package(name: str) -> None:
    try:
        path = packaged_weights(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{ENTRIES[name].package} is not installed")
    assert path is not None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PROVENANCE[name].sha256


def test_what_is_measured_is_read_off_the_results() -> None:
    results = judges_table.RESULTS.read_text(encoding="utf-8")
    share, speed = judges_table.measured("chgnet", results)
    assert share.endswith("references shipped") and float(speed) > 0
    assert judges_table.measured("sevennet-l3i5", results) != judges_table.measured("sevennet", results)
    assert judges_table.measured("mace", results) == (judges_table.UNMEASURED, "–")
