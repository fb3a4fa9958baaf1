"""What a property is: something of each crystal that can be asked for, with its unit and its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crysjepa.core.candidates import CandidateTable
from crysjepa.runtime.progress import StageProgress


class PropertyError(ValueError):
    """Raised for a property that nothing has, or an objective that cannot be read."""


def column_name(name: str) -> str:
    """``capacity_Li`` of ``capacity:Li``."""
    return re.sub(r"\W+", "_", name).strip("_")


@dataclass(frozen=True)
class Measured:
    """Values by id, and reasons of the crystals that have none."""

    values: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class How:
    """By which force field a property is calculated, if it takes one, and where.

    ``processes`` change no value; by default as many as check phonons.
    """

    force_field: str = "chgnet"
    device: str = "cpu"
    processes: int | None = None
    progress: StageProgress | None = None


@dataclass(frozen=True)
class Calibration:
    """How a force field's values stand to DFT's: ``factor`` times them, the logarithm then spreads by
    ``spread`` (root mean square), over ``num`` crystals; 0 where the spread was worked out from others.
    """

    factor: float
    spread: float
    num: int


@dataclass(frozen=True)
class ByElement:
    """A property whose value is the largest of its elements' values by atomic number, or the lowest."""

    values: Mapping[int, float]
    lowest: bool = False


@dataclass(frozen=True, kw_only=True)
class Property:
    """A number for each crystal.

    Attributes
    ----------
    name
        As in an objective: ``"density"``, ``"capacity:Li"``, ``"module:function"``.
    unit
        Of its values; "" for a plain number.
    description, source
        What it is, and where its values come from.
    measure
        Values of all rows of a table, which all have a valid structure. It never raises for a crystal.
    by_force_field
        Whether a force field calculates it: another one may say something else.
    at_rest
        Whether a crystal is first relaxed tightly: seconds a crystal, and only worth it of one that is
        stable.
    calibrations
        By force field, how its values stand to DFT's.
    by_element
        Where one element decides the value: what is beyond a target need not be drawn then.
    offset
        The logarithm whose spread is known is that of the value and this.
    own
        Whether it is somebody's function: its column begins with ``own_`` then, which no other does.
    version
        Of what calculates it, where that may change.
    """

    name: str
    unit: str
    description: str
    source: str
    measure: Callable[[CandidateTable, How], Measured]
    by_force_field: bool = False
    at_rest: bool = False
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    by_element: ByElement | None = None
    offset: float = 0.0
    own: bool = False
    version: str = ""

    @property
    def column(self) -> str:
        """Its column in a table."""
        return column_name(f"own_{self.name}" if self.own else self.name)

    def spread(self, force_field: str) -> float | None:
        """Of the logarithm of a value about DFT's; None where it is exact.

        Of a force field that was not compared with DFT it is taken to be the largest of those that were.
        """
        known = self.calibrations.get(force_field)
        others = (c.spread for c in self.calibrations.values())
        return max(others, default=None) if known is None else known.spread

    def error(self, value: float, force_field: str) -> float | None:
        """One standard error of a value, in its unit; None as of :meth:`spread`."""
        spread = self.spread(force_field)
        return None if spread is None else abs(value + self.offset) * spread

    def source_by(self, force_field: str) -> str:
        """Where its values come from, with the force field's name."""
        if not self.by_force_field:
            return self.source
        known = self.calibrations.get(force_field)
        scaled = "never compared with DFT: its error is taken to be that of the worst that was"
        if known is not None and not known.num:
            scaled = "its error follows from those of both moduli"
        elif known is not None:
            scaled = f"times {known.factor:.2f}, the median of DFT's over it for {known.num} crystals; the "
            scaled += f"logarithm spreads by {known.spread:.2f} about that"
        return f"{force_field}: {self.source}; {scaled}"


def for_each(
    table: CandidateTable, value: Callable[[int], float | str | None], missing: str = "no value"
) -> Measured:
    """Values row by row: ``value`` of a row's place is a number, or the reason for there being none.

    What it raises is that crystal's reason.
    """
    from crysjepa.runtime.errors import describe_error

    values, reasons = dict[str, float](), dict[str, str]()
    for row, id_ in enumerate(table.ids):
        try:
            found = value(row)
        except Exception as error:  # noqa: BLE001 - libraries and users' functions raise anything; recorded
            reasons[id_] = describe_error(error)
            continue
        if isinstance(found, str) or found is None:
            reasons[id_] = found or missing
        else:
            values[id_] = float(found)
    return Measured(values, reasons)
