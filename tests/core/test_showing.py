"""Tables of crystals in a notebook."""

from plain_crystals import table_of_formulas

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.showing import ROWS, table_html


def test_a_table_says_how_its_crystals_ended_and_shows_the_first():
    table = table_of_formulas("Al2O3", *(f"NaCl{n}" for n in range(1, 15)))
    last = table.ids[-1]
    table = table.decide("validity", {last: "too close"}, Status.REJECTED)
    html = table._repr_html_()
    assert f"15 crystals: 14 ok, 1 rejected: validity; the first {ROWS}" in html
    assert html.count("<tr") == ROWS + 2 and "Al2O3" in html  # with the head and the index's name
    assert "frac_coords" not in html and "reason" not in html, "null in every row that is shown"


def test_markup_in_an_id_or_a_reason_stays_text():
    table = table_of_formulas("NaCl")
    failed = CandidateTable.from_crystals(table.crystals(), {"<img src=x>": "<b>bad</b>"})
    html = table_html(failed)
    assert "<img" not in html and "<b>" not in html
    assert "&lt;img src=x&gt;" in html and "&lt;b&gt;bad&lt;/b&gt;" in html


def test_an_empty_table_can_be_shown():
    assert "0 crystals" in table_html(table_of_formulas("NaCl").only([]))
