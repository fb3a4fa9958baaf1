"""Elements in CIFs: type symbols, labels, and the formula that is declared."""

import pytest
from cif_texts import block, is_so, outcome

from crysjepa.io.cif.blocks import ReadError, atomic_number, read_only_block


@pytest.mark.parametrize(
    ("symbol", "z"),
    [
        ("Fe3+", 26), ("Fe+3", 26), ("Fe2+", 26), ("O2-", 8), ("O-2", 8), ("Cu+", 29), ("D", 1), ("T", 1),
        ("D+", 1),
        ("Fe0+", 26), ("Fe0", 26), ("FE", 26), ("fe", 26), ("Fe2.5+", 26), ("Fe++", 26), ("CO2+", 27),
        ("Og", 118),
        ("Nb/Zr", 0), ("NH4", 0), ("NH4+", 0), ("H2O", 0), ("OH", 0), ("OH-", 0), ("HO", 0), ("CN-", 0),
        ("NO3-", 0),
        ("SO4", 0), ("Fe,Ni", 0), ("(Fe,Ni)", 0), ("Fe0.5Ni0.5", 0), ("Xx", 0), ("X", 0), ("M", 0), ("Va", 0),
        ("Wat", 0), ("Fe3+(oct)", 0), ("O2", 0), ("13C", 0), ("", 0), ("Fe\u00b3", 0),
    ],
)  # fmt: skip
def test_the_whole_type_symbol_counts(symbol, z):
    if z:
        assert atomic_number(symbol) == z
    else:
        with pytest.raises(ReadError, match="is not an element"):
            atomic_number(symbol)


@pytest.mark.parametrize(
    ("labels", "formula", "expected"),
    [
        (["O(1)"], "", [8]), (["Ca_1"], "", [20]), (["O1'"], "", [8]), (["Si*"], "", [14]),
        (["Ti4+_1"], "", [22]),
        (["FE1A", "O1"], "", [26, 8]), (["Feoct1"], "", [26]), (["OAp1"], "", [8]), (["Hw1"], "", [1]),
        (["HO1"], "", "may mean two elements"), (["NH4"], "", "may mean two elements"),
        (["T1"], "", "'T1' is not"),
        (["CO1", "C1"], "", "may mean two elements"), (["CO1", "Al1"], "", "may mean two elements"),
        (["CO1"], "Co", [27]), (["CO1", "O1"], "C O", [6, 8]), (["HO1", "HO2", "O1"], "H2 O", [1, 1, 8]),
        (["Os1", "Al1"], "Al O", [8, 13]), (["Os1", "Al1"], "", [76, 13]),
        (["Ba1", "Osite1"], "", "'Osite' has a word in it"), (["Ba1", "Osite1"], "Ba O", [56, 8]),
        (["Ba1", "Osite1"], "Ba Os", [56, 76]), (["Ba1", "Osite1"], "Ba S", "declares Ba S but"),
        (["Nsite2"], "", "has a word in it"), (["Nsite2"], "N", [7]), (["Asite"], "", "has a word in it"),
        (["Cax1", "Fetet"], "", "'Cax' has a word in it"), (["Cax1", "Fetet"], "C Fe", [6, 26]),
        (["Fea1", "OsA"], "", [26, 76]),
        (["HO1", "O1"], "N O", "declares N O but"),
        (["M1"], "", "'M1' is not"), (["Nb/Zr1"], "", "is not"), (["Fe,Ni"], "", "is not"),
        (["H2O"], "", "is not"),
        (["Va1"], "", "is not"), (["Fe0.5Ni"], "", "is not"), (["1Fe"], "", "is not"),
    ],
)  # fmt: skip
def test_labels_without_type_symbols(labels, formula, expected):
    rows = [f'"{label}" 0.1 0.2 {0.3 * i}' for i, label in enumerate(labels)]
    text = block(*rows, columns="label", extra=f"_chemical_formula_sum '{formula}'\n" * bool(formula))
    if isinstance(expected, str):
        with pytest.raises(ReadError, match=expected):
            read_only_block(text)
    else:
        assert read_only_block(text).atomic_numbers.tolist() == expected


@pytest.mark.parametrize(
    ("formula", "units", "counts", "expected"),
    [
        ("Li0.5 Co O2", "", {"Li": 1, "Co": 2, "O": 4}, 7),
        ("Na0.33 Co O2", "", {"Na": 1, "Co": 3, "O": 6}, 10),
        ("Fe0.95 O", "", {"Fe": 1, "O": 1}, "declares Fe0.95 O but the cell has Fe1 O1"),
        ("D2 O", "", {"D": 2, "O": 1}, 3),
        ("H2 O", "1", {"D": 2, "O": 1}, 3),
        ("Ca H2 O2", "", {"Ca": 1, "O": 2}, "declares Ca H2 O2 but the cell has Ca1 O2"),
        ("Na Cl", "", {"Na": 1, "K": 1}, "declares"),
        ("Na Cl", "", {"Na": 2, "Cl": 1}, "declares"),
        ("Na Cl", "2", {"Na": 3, "Cl": 3}, "declares Na Cl (Z = 2) but the cell has Na3 Cl3"),
        ("Na2 Cl2", "2", {"Na": 2, "Cl": 2}, 4),
        ("(Fe, Mg)2 Si O4", "", {"Fe": 1, "O": 1}, 2),
        ("Qq2", "", {"Fe": 1, "O": 1}, 2),
        ("?", "?", {"Fe": 1}, 1),
    ],
)
def test_the_declared_formula_is_checked_element_by_element(formula, units, counts, expected):
    symbols = [symbol for symbol, n in counts.items() for _ in range(n)]
    rows = [f"{s}{i} {s} 0.1 0.5 {i / len(symbols)}" for i, s in enumerate(symbols)]
    extra = f"_chemical_formula_sum '{formula}'\n_cell_formula_units_Z {units or '?'}\n"
    found = outcome(block(*rows, extra=extra))
    assert is_so(found, expected), found
