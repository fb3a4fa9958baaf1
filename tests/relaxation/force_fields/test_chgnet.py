"""CHGNet, which comes with crysjepa, through what every force field must hold."""

from __future__ import annotations

import pytest
from force_field_checks import check_force_field, check_nasty_corpus

from crysjepa.relaxation.force_fields.registry import get_force_field


def test_chgnet_is_sound() -> None:
    check_force_field(get_force_field("chgnet"))


@pytest.mark.slow
def test_nasty_corpus() -> None:
    reasons = check_nasty_corpus("chgnet")
    for name, part in {
        "isolated atom": "above 500",
        "cell of 0.3 Å": "overlap",
        "cell of 80 Å": "above 500",
        "atoms 0.03 Å apart": "0.03 Å is below 0.5 Å",
        "alone in 7.5 Å": "no neighbour within 6",
        "Z = 100": "Z = 100",
        "not a number": "not finite",
    }.items():
        assert part in (reasons[name] or "")
