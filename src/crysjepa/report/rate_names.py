"""What each rate is called: the one place for its names on pages, in figures and in tables."""

from __future__ import annotations

from typing import NamedTuple


class RateName(NamedTuple):
    """Names of a rate: in narrow tables, in figures, over a wide table's column, and where there is room."""

    short: str
    title: str
    column: str
    words: str


RATE_NAMES = {
    "valid": RateName("V", "Valid", "V", "V: valid"),
    "stable": RateName("S", "Stable", "S", "S: stable"),
    "unique": RateName("U", "Unique", "U", "U: unique"),
    "novel": RateName("N", "Novel", "N", "N: novel"),
    "sun": RateName("S.U.N.", "S.U.N.", "S.U.N.", "S.U.N."),
    "vsun": RateName("V.S.U.N.", "V.S.U.N.", "V.S.U.N.", "V.S.U.N."),
    "vsun_new_formula": RateName(
        "new formula", "new formula", "V.S.U.N., new formula", "V.S.U.N., of a formula not known"
    ),
    "vsun_supported": RateName(
        "and supported",
        "and supported",
        "and supported",
        "the same, where the hull is supported and gives no warning",
    ),
    "new_formula": RateName("", "", "", "unique, novel, of a formula not known"),
    "stable_at_0": RateName("", "", "", "S at 0 eV/atom"),
    "sun_at_0": RateName("", "", "S.U.N. at 0", "S.U.N. at 0 eV/atom"),
    "vsun_at_0": RateName("", "", "V.S.U.N. at 0", "V.S.U.N. at 0 eV/atom"),
    "new_prototype": RateName("", "", "new prototypes", "unique, novel, and of a new prototype"),
    "converged": RateName("", "", "converged", "relaxation converged"),
}
"""By the rate's key in ``metrics.json``; "" where it has no place."""

RATE_LETTERS = {key: name.short for key, name in RATE_NAMES.items() if name.short}
"""The rates as a narrow table's columns have them."""
RATES = {key: name.title for key, name in RATE_NAMES.items() if name.title}
"""The rates of a round in ``metrics.json``, each a fraction of all its crystals; the last two are of V.S.U.N.
crystals of a formula not known, and of those of them where the hull is supported and gives no warning."""
NAMES = {key: name.words for key, name in RATE_NAMES.items()}
"""What each rate is called where there is room."""
_AS_TABLE_1 = ("stable", "novel", "unique", "valid")
COLUMNS = {
    key: RATE_NAMES[key].column
    for key in (*_AS_TABLE_1, *(k for k in RATE_NAMES if k not in _AS_TABLE_1))
    if RATE_NAMES[key].column
}
"""Columns of the comparison, as Table 1 of the paper has them and beyond."""
