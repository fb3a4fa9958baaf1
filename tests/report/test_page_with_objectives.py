"""The page of a run with objectives: what was asked for, how often it was met, and by which crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_page import (
    METRICS,
    NASTY,
    Page,
    assert_references_resolve,
    assert_self_contained,
    candidates,
    columns,
    rates,
    read,
    write_run,
)

from crysjepa.core.candidates import CandidateTable
from crysjepa.report import write_report
from crysjepa.report.objectives import aims_of, front_figure, rows_of, values_of
from crysjepa.report.results import Results, read_results

OBJECTIVES: list[dict[str, Any]] = [
    {
        "objective": "bulk_modulus>=200", "column": "bulk_modulus", "sense": ">=", "target": 200.0,
        "property": "bulk_modulus", "unit": "GPa", "description": "resistance against compression",
        "source": "chgnet: stresses", "relative_error": 0.2,
    },
    {
        "objective": "min:price", "column": "price", "sense": "min", "target": None, "property": "price",
        "unit": "USD/kg", "description": "price of the elements", "source": "a list of prices",
        "relative_error": None,
    },
]  # fmt: skip


def aimed(num: int, *shares: float) -> dict[str, Any]:
    names = ("meets_targets", "stable_and_meets", "vsun_and_meets")
    found = dict(zip(names, shares, strict=True))
    return {"num": num, **found, "intervals": {k: [v / 2, v + 0.1] for k, v in found.items()}}


def metrics(**more: Any) -> dict[str, Any]:
    """Of two rounds, the second with both controls."""
    first = {"round": 0, "name": "base", **rates(), "aimed": aimed(20, 0.25, 0.125, 0.1)}
    second = {
        "round": 1, "name": "refined", **rates(vsun=0.35), "aimed": aimed(20, 0.5, 0.375, 0.3),
        "control": {"what": "12 of 80, at random", **rates(num_crystals=12), "aimed": aimed(12, 0.2, 0.1, 0)},
        "learnt_at_random": {"what": "11 drawn", **rates(), "aimed": aimed(11, 0.4, 0.2, 0.05)},
    }  # fmt: skip
    return METRICS | {"rounds": [first, second], "objectives": OBJECTIVES, "combine": "product"} | more


def measured(*, judge: str | None = None) -> CandidateTable:
    """Those with an energy have a modulus; one of the short list has no price."""
    table = candidates()
    alive = table.column("e_above_hull")
    ids = [i for i, e in zip(table.ids, alive, strict=True) if e is not None]
    moduli = {i: 100.0 + 7 * int(i[-3:]) for i in ids}
    table = columns(
        table,
        bulk_modulus=("Float64", moduli),
        bulk_modulus_error=("Float64", {i: 0.2 * m for i, m in moduli.items()}),
        price=("Float64", {i: 12.5 for i in ids if i != "base-005"}),
        merit=("Float64", {i: 0.25 for i in ids if i != "base-005"}),
        on_front=("boolean", {i: i.endswith("026") for i in ids}),
    )
    if judge is not None:
        table = columns(table, **{f"bulk_modulus_{judge}": ("Float64", {i: 99.0 for i in ids})})
    return table


def run_of(folder: Path, table: CandidateTable | None = None, **more: Any) -> Path:
    return write_run(folder, measured() if table is None else table, metrics(**more))


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return read(write_report(run_of(tmp_path / "run")))


def test_the_section_says_what_was_asked_for(page: Page) -> None:
    words = page.words()
    assert "objectives" in page.values("id") and "#objectives" in page.values("href")
    assert "Besides stability: bulk_modulus>=200, min:price" in words
    assert "bulk_modulus, GParesistance against compression; chgnet: stresses" in words
    assert "price, USD/kgprice of the elements; a list of prices" in words
    assert_self_contained(page)
    assert_references_resolve(page)


def test_rates_of_those_chosen_and_of_both_controls(page: Page, tmp_path: Path) -> None:
    rows = rows_of(read_results(tmp_path / "run").rounds)
    assert [(r.name, r.num) for r in rows] == [
        ("base, chosen", 20),
        ("refined, chosen", 20),
        ("refined, at random of what was drawn", 12),
        ("refined, by a generator that learnt at random", 11),
    ]
    assert rows[0].cells == ("25.0 (12–35)", "12.5 (6–22)", "10.0 (5–20)")
    words = page.words()
    for row in rows:
        assert row.name + str(row.num) + "".join(row.cells) in words.replace("\n", "")
    assert "meet the targets" in words and "and are V.S.U.N." in words


def test_each_crystal_has_its_values(page: Page, tmp_path: Path) -> None:
    results = read_results(tmp_path / "run")
    aims = aims_of(results)
    assert [(a.name, a.upward, a.target) for a in aims] == [
        ("bulk_modulus", True, 200), ("price", False, None),
    ]  # fmt: skip
    row = results.frame.index[results.frame["id"] == "base-026"][0]
    modulus, price = values_of(results, aims, row)
    assert (modulus.value, modulus.error, modulus.unit) == (282, pytest.approx(56.4), "GPa")
    assert (price.value, price.error) == (12.5, None)
    words = page.words()
    assert "bulk modulus 282.0 ± 56.40 GPa" in words and "price 12.50 USD/kg" in words
    assert "price – USD/kg" in words, "base-005 has none"
    assert "merit 0.2500" in words and words.count("on the front") >= 1


def test_a_range_is_one_value(tmp_path: Path) -> None:
    both = [OBJECTIVES[0], OBJECTIVES[0] | {"objective": "bulk_modulus<=300", "sense": "<=", "target": 300.0}]
    results = read_results(run_of(tmp_path / "run", objectives=both))
    aims = aims_of(results)
    assert len(values_of(results, aims, 6)) == 1
    figure = front_figure(results, aims, [])
    assert figure is not None and len(figure.axes) == 1
    lines = [line.get_ydata()[0] for line in figure.axes[0].lines]
    assert {200.0, 300.0} <= set(lines)


def test_what_a_further_judge_says_stands_beside_it(tmp_path: Path) -> None:
    trust = {"judges": [{"name": "mace", "column": "e_above_hull_mace"}]}
    path = run_of(tmp_path / "run", measured(judge="mace"), trust=trust)
    assert "99.00 mace" in read(write_report(path)).words()


def test_the_figure_has_every_crystal_and_the_target(tmp_path: Path) -> None:
    results = read_results(run_of(tmp_path / "run"))
    figure = front_figure(results, aims_of(results), [6, 7])
    assert figure is not None and len(figure.axes) == 2
    first, second = figure.axes
    assert first.get_ylabel() == "bulk modulus (GPa)" and second.get_ylabel() == "price (USD/kg)"
    drawn = sum(len(c.get_offsets()) for c in first.collections[:2])
    assert drawn == int(results.frame["bulk_modulus"].notna().sum())
    assert any(line.get_ydata()[0] == 200 for line in first.lines)
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["base", "refined", "front", "on the short list"]


def test_without_objectives_there_is_no_section(tmp_path: Path) -> None:
    for name, listed in (("none", None), ("empty", []), ("odd", "density>=5")):
        page = read(write_report(run_of(tmp_path / name, candidates(), objectives=listed)))
        assert "objectives" not in page.values("id") and "What was asked for" not in page.words()


def test_without_a_value_there_is_no_figure(tmp_path: Path) -> None:
    results: Results = read_results(run_of(tmp_path / "run", candidates()))
    assert front_figure(results, aims_of(results), []) is None
    page = read(write_report(tmp_path / "run"))
    assert "No crystal has both an energy and a value." in page.words()
    assert "bulk modulus – GPa" in page.words()


def test_markup_of_others_stays_text(tmp_path: Path) -> None:
    listed = [
        {**OBJECTIVES[0], "objective": text, "property": text, "unit": text, "description": text,
         "source": text}
        for text in NASTY
    ]  # fmt: skip
    second = {"objective": NASTY[0], "column": NASTY[1], "sense": NASTY[2], "target": NASTY[3]}
    path = write_report(run_of(tmp_path / "run", objectives=[*listed, second, {}, 5]))
    page = read(path)
    assert_self_contained(page)
    assert_references_resolve(page)
    words = page.words()
    for text in NASTY[:2]:
        assert text in words
    assert "{{ 7*7 }}" in words and "x" * 79 + "…" in words, "and what is long is cut"


@pytest.mark.parametrize("text", NASTY)
def test_and_so_it_does_beside_an_axis(tmp_path: Path, text: str) -> None:
    listed = [OBJECTIVES[0] | {"property": text, "unit": text}]
    page = read(write_report(run_of(tmp_path / "run", objectives=listed)))
    assert_self_contained(page)
    assert "No crystal has both" not in page.words()


@pytest.mark.parametrize(
    "odd", [5, [], {}, {"num": None}, {"num": "many", "meets_targets": "x"}, {"meets_targets": 0.5},
            {"meets_targets": 0.5, "intervals": {"meets_targets": [0.1]}},
            {"meets_targets": 0.5, "intervals": [1, 2]},
            {"meets_targets": 0.5, "intervals": {"meets_targets": ["a", None]}}],
)  # fmt: skip
def test_odd_rates_do_not_spoil_the_page(tmp_path: Path, odd: object) -> None:
    rounds = [METRICS["rounds"][0] | {"aimed": odd, "control": odd, "learnt_at_random": {"aimed": odd}}]
    path = run_of(tmp_path / "run", rounds=rounds)
    assert "What was asked for" in read(write_report(path)).words()
    assert all(row.cells == ("–",) * 3 for row in rows_of(read_results(path).rounds))
