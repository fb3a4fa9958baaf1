"""The report: one self-contained page, right in its numbers, safe with other people's text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from pymatgen.core import Lattice, Structure

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.report import write_report
from crysjepa.report.cards import cif_link
from crysjepa.report.embedding import Table
from crysjepa.report.evaluation import page as tables_page
from crysjepa.report.figures import hull_figure, map_figure, rates_figure
from crysjepa.report.funnel import funnel, near_misses, reasons, shortlist
from crysjepa.report.results import Results, Round, numbers, plain, read_results
from crysjepa.report.scripts import OWN, VIEWER, script
from crysjepa.report.sentences import headline
from crysjepa.report.structures import draw_structure, view_of
from crysjepa.report.style import INK, LINE, MUTED, PAPER
from crysjepa.report.wording import formula, number, significant, space_group
from crysjepa.runtime.files import write_parquet

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg><b onload=alert(1)>",
    "x" * 400,
    "$a$ {{ 7*7 }} 中文 \u202egnp.exe\x00",
)
VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}
KNOWN = re.compile(r"https://materialsproject\.org/materials/mp-[0-9]+")
"""The one place elsewhere that a page may link to."""
LOADING = {"src", "href", "xlink:href", "data", "poster", "action", "srcset", "formaction"}


# -- runs to report on ---------------------------------------------------------------------------


@cache
def rock_salt(a: float = 5.6) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@cache
def crystals(count: int) -> Crystals:
    base = Crystals.from_structures([rock_salt().get_primitive_structure()] * count)
    return base.with_ids([f"base-{i:03d}" for i in range(count)])


def columns(table: CandidateTable, **values: tuple[str, dict[str, Any]]) -> CandidateTable:
    for name, (dtype, column) in values.items():
        table = table.with_column(name, column, dtype)
    return table


def rates(**given: float) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "num_crystals": 20,
        "valid": 0.8,
        "stable": 0.5,
        "unique": 0.9,
        "novel": 0.6,
        "sun": 0.3,
        "vsun": 0.2,
    } | given
    return entry | {
        "intervals": {k: [max(0, v - 0.05), v + 0.05] for k, v in entry.items() if k != "num_crystals"}
    }


METRICS: dict[str, Any] = {
    "rounds": [{"round": 0, "name": "base", **rates()}, {"round": 1, "name": "refined", **rates(vsun=0.35)}],
    "protocol": {"force_field": "CHGNet", "hull": "the bundled hull", "e_above_hull_max": 0.1},
    "notes": ["Relaxation stops after 500 steps."],
}


@cache
def candidates() -> CandidateTable:
    """Forty crystals of two rounds and one unreadable; the k-th of a round (of 20) has a known fate."""
    table = CandidateTable.from_crystals(crystals(40), {"broken": "the file ends within a loop"})
    ids = [i for i in table.ids if i != "broken"]
    fate = {i: int(i[-3:]) % 20 for i in ids}
    table = columns(table, round=("Int64", {i: int(i[-3:]) // 20 for i in ids} | {"broken": 0}))
    table = table.decide(
        "relax", {i: f"forces of {k}.5 eV/Å" for i, k in fate.items() if k < 2}, Status.FAILED
    )
    alive = table.ok_ids
    hull = {i: 0.01 * fate[i] for i in alive}
    table = columns(
        table,
        valid=("boolean", {i: fate[i] >= 5 for i in alive}),
        unique=("boolean", {i: fate[i] != 7 for i in alive}),
        novel=("boolean", {i: fate[i] != 8 for i in alive}),
        stable=("boolean", {i: hull[i] <= 0.1 for i in alive}),
        e_above_hull=("Float64", hull),
        formation_energy_per_atom=("Float64", {i: -2.0 + hull[i] for i in alive}),
        converged=("boolean", {i: fate[i] != 9 for i in alive}),
        map_x=("Float64", {i: np.cos(fate[i]) + 0.01 * k for k, i in enumerate(alive)}),
        map_y=("Float64", {i: np.sin(fate[i]) - 0.01 * k for k, i in enumerate(alive)}),
    )
    table = table.decide(
        "validity", {i: "no charge-neutral choice" for i in alive if fate[i] < 5}, Status.REJECTED
    )
    table = table.decide(
        "stability", {i: f"{hull[i]:.2f} above 0.1" for i in alive if hull[i] > 0.1}, Status.REJECTED
    )
    chosen = [i for i in reversed(ids) if fate[i] in (5, 6, 10)]
    return columns(
        table,
        shortlist_rank=("Int64", {i: k + 1 for k, i in enumerate(chosen)}),
        score=("Float64", {i: 0.5 + k for k, i in enumerate(chosen)}),
        formula=("string", {i: "Na3Cl2" for i in chosen}),
        space_group=("string", {i: "P2_1/c" for i in chosen}),
        nearest_known=("string", {i: "mp-22862" for i in chosen}),
        nearest_known_formula=("string", {i: "NaCl" for i in chosen}),
        nearest_known_distance=("Float64", {i: 0.25 for i in chosen}),
        hull_entries=("Int64", {i: 2 for i in chosen}),
        cif_file=("string", {i: f"shortlist/{k + 1:03d}.cif" for k, i in enumerate(chosen)}),
    )


def write_run(
    folder: Path,
    table: CandidateTable | None = None,
    metrics: dict[str, Any] | None = None,
    background: pd.DataFrame | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (candidates() if table is None else table).write(folder / "candidates.parquet")
    (folder / "metrics.json").write_text(json.dumps(METRICS if metrics is None else metrics))
    (folder / "config.json").write_text(json.dumps({"seed": 3, "relax": {"fmax": 0.05}}))
    (folder / "run.json").write_text(json.dumps({"versions": {"crysjepa": "0.1.0"}, "seconds": {"relax": 2}}))
    if background is not None:
        write_parquet(
            pa.Table.from_pandas(background, preserve_index=False), folder / "reference_map.parquet"
        )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    grid = np.linspace(-1, 1, 7)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    background = pd.DataFrame({"x": x, "y": y, "formation_energy_per_atom": x * y})
    return write_run(tmp_path / "run", background=background)


# -- reading the page back -----------------------------------------------------------------------


class Page(HTMLParser):
    """A strict reading of the page: tags must close in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}"
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
            return
        (self.styles if self.open and self.open[-1] == "style" else self.text).append(data)

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]

    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def assert_self_contained(page: Page) -> None:
    assert page.tags["iframe"] == page.tags["object"] == page.tags["img"] == page.tags["form"] == 0
    assert_only_our_scripts(page)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for value in page.values(*LOADING):
        assert re.match(r"#|data:|shortlist/", value) or KNOWN.fullmatch(value), value
    for value in page.styles + page.values("style", "fill", "stroke", "clip-path", "filter"):
        assert "@import" not in value
        assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", value))
    values = page.values(*(n for _, n, _ in page.attributes))
    assert not [v for v in values if re.search(r"https?://", v) and not KNOWN.fullmatch(v)]


def assert_only_our_scripts(page: Page) -> None:
    """What runs is what ships, by its hash; what a run says is data."""
    running = [text for attributes, text in page.scripts if not attributes]
    for attributes, text in page.scripts:
        if attributes:
            assert attributes == {"type": "application/json", "id": "scenes"}
            assert json.loads(text) and "<" not in text
    shipped = [str(script(name).text) for name in (VIEWER, OWN)]
    assert running == shipped[len(shipped) - len(running) :]
    policy = next(v for v in page.values("content") if v.startswith("default-src"))
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    hashes = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in running]
    assert parts.get("script-src", "").split() == [f"'sha256-{h}'" for h in hashes]
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    assert "unsafe-eval" not in policy and "http" not in policy


def assert_references_resolve(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = {v[1:] for v in page.values("href") if v.startswith("#")}
    for value in page.values("style", "fill", "clip-path"):
        wanted |= set(re.findall(r"url\(#([^)]*)\)", value))
    assert wanted <= set(ids)


# -- the whole page ------------------------------------------------------------------------------


def test_page_is_well_formed_and_self_contained(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = read(path)
    assert_self_contained(page)
    assert_references_resolve(page)
    assert not list(run.glob(".*partial"))


def test_page_says_by_whom_against_what_and_beside_which_control(tmp_path: Path) -> None:
    """A reader of the page alone is not misled: judge, hull, control, grade, support and warning."""
    table = candidates()
    chosen = [i for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None]
    last = table.ids[[r == 6 for r in table.column("shortlist_rank")].index(True)]
    too_low = "0.40 eV/atom below the hull: a competing compound is missing there, or the energy is wrong"
    table = columns(
        table,
        hull_support=("string", {i: "supported" if i != last else "blind" for i in chosen}),
        hull_gaps=("string", {last: "F-Hf"}),
        hull_warning=("string", {last: too_low}),
        novelty_grade=("string", {i: "new formula" if i != last else "known formula" for i in chosen}),
        known_compound=("string", {last: "mp-1234"}),
    )
    control = rates(vsun=0.1, vsun_new_formula=0.05, num_crystals=60) | {"what": "60 of 960 drawn, at random"}
    eligible = rates(vsun_new_formula=0.5, num_crystals=12)
    base = rates(vsun_new_formula=0.15) | {"control": control | {"eligible": eligible}}
    protocol = METRICS["protocol"] | {"hull_compounds": 40784, "novelty_set_size": 27708}
    protocol["elemental_references_mae"] = 0.0207
    metrics = METRICS | {
        "rounds": [{"round": 0, "name": "base", **base}, METRICS["rounds"][1]],
        "protocol": protocol,
        "judge": "chgnet 0.3.0",
        "hull": "known",
        "novelty_set": "known",
    }
    page = read(write_report(write_run(tmp_path / "run", table, metrics)))
    words = page.words()
    assert "with a formula not known" in words
    assert "Judge: chgnet 0.3.0, a force field, not DFT, and the first teacher of the ranker" in words
    assert "Hull: “known”, 40,784 compounds. Novelty: against “known”, 27,708 crystals." in words
    assert "15.0 (10–20) % of the" in words and "5.0 (0–10) % of 60 of 960 drawn, at random" in words
    assert "50.0 (45–55) % of 12 at random among those like them" in words and "base, at random" in words
    assert "the hull is supported for 5; 1 are of known formulas" in words
    assert "the search did not converge" not in words
    assert "1 lie more than 0.1 eV/atom below the hull" in words
    assert "stable (at most 0.1 eV/atom above the hull)" in words and "not on the lists here" in words
    assert "elemental references alone err by 0.021 eV/atom" in words
    assert f"warning: {too_low}" in words and "known formula: mp-1234" in words
    assert "none in F-Hf, where LeMat-Bulk has some" in words


def test_page_has_every_part(run: Path) -> None:
    page = read(write_report(run))
    assert [v for v in page.values("download") if v.endswith(".cif")] == [f"00{k}.cif" for k in range(1, 7)]
    assert page.words().count("shortlist/00") == 6 and "crystals.zip" in page.values("download")
    assert {"funnel", "rates", "hull", "map", "shortlist", "notes", "details"} <= set(page.values("id"))
    assert page.values("class").count("plot") == 3
    assert all(label for tag, name, label in page.attributes if tag == "svg" and name == "aria-label")
    assert page.values("class").count("cell") == 6 + 5  # the short list, and the first five on top
    words = page.words()
    assert "41 crystals were generated in 2 rounds, relaxed with CHGNet and screened" in words
    assert "V.S.U.N. rose from 20.0 % (base) to 35.0 % (refined); the intervals do not overlap." in words
    for text in (
        "15–25",
        "Relaxation stops after 500 steps.",
        "relax.fmax",
        "versions.crysjepa",
        "2 of",
    ):
        assert text in words
    assert "6 of the short list rest on fewer than three known compounds" in words


@pytest.mark.parametrize(
    ("ranker", "says"),
    [
        ("jepa-hull", "by jepa-hull: energy above hull, eV/atom; lower is better"),
        ("chgnet", "by chgnet: energy above hull, eV/atom; lower is better"),
        ("jepa-distance", "by jepa-distance: distance D_C; lower is better"),
        ("random", "by random: drawn at random; lower is better"),
        (None, "by the ranker; lower is better"),
    ],
)
def test_the_score_is_named_for_the_ranker_that_ran(ranker: str | None, says: str, tmp_path: Path) -> None:
    metrics = METRICS | {"protocol": METRICS["protocol"] | ({"ranker": ranker} if ranker else {})}
    html = write_report(write_run(tmp_path, metrics=metrics)).read_text()
    assert says in html and ("D_C" in html) == (ranker == "jepa-distance")
    assert f'data-label="Score{f" by {ranker}" if ranker else ""}"' in html


def test_figures_take_the_pages_colours(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    drawn = "".join(re.findall(r'<svg[^>]*class="plot".*?</svg>', html, flags=re.DOTALL))
    assert "currentColor" in drawn and "var(--muted)" in drawn
    assert not [c for c in (INK, MUTED, LINE, PAPER) if c in drawn]


@pytest.mark.slow
def test_same_results_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    expected = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == expected
    background = pd.read_parquet(run / "reference_map.parquet")
    shuffled = candidates().frame.sample(frac=1, random_state=1).reset_index(drop=True)
    other = write_run(tmp_path / "elsewhere", CandidateTable(shuffled), None, background[::-1])
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert write_report(other).read_bytes() == expected


@pytest.mark.parametrize("converged", [2, 3])
def test_a_search_that_did_not_converge_says_what_to_do(tmp_path: Path, converged: int) -> None:
    closed = {"num_systems": 3, "num_competitors": 90, "num_relaxed": 9, "num_on_hull": 1}
    metrics = METRICS | {"trust": {"closed_hull": closed | {"num_converged": converged}}}
    table = candidates()
    table = columns(table, hull_support=("string", dict.fromkeys(table.ids, "supported")))
    words = read(write_report(write_run(tmp_path / "run", table, metrics))).words()
    assert f"in {converged} systems the last round found nothing new" in words
    told = "crysjepa compete RUN/shortlist --effort thorough --out closed searches further"
    assert (told in words) == (converged < 3)


def nasty_run(folder: Path) -> Path:
    """A run whose texts are all somebody's markup."""
    frame = candidates().frame.copy()
    rows = frame.index[frame["shortlist_rank"].notna()][: len(NASTY)]
    for row, text in zip(rows, NASTY, strict=True):
        for name in ("id", "formula", "space_group", "nearest_known", "nearest_known_formula", "cif_file"):
            frame.loc[row, name] = text
    failed = frame.index[frame["stage"] == "relax"]
    frame.loc[failed, "reason"] = NASTY[0]
    metrics = json.loads(json.dumps(METRICS))
    metrics["rounds"][0]["name"] = NASTY[2]
    metrics["protocol"] |= {"force_field": NASTY[0], "hull": NASTY[1], NASTY[0]: NASTY[1]}
    metrics["notes"] = [*NASTY, "\ud800"]
    return write_run(folder, CandidateTable(frame), metrics)


def nasty_tables() -> str:
    """A page of tables, as of an evaluation, with the same texts in every place."""
    rows = [(text,) * 3 for text in map(plain, NASTY)]
    return tables_page(
        kicker=NASTY[0], title=NASTY[1], headline=NASTY[2], lines=NASTY,
        tables=[Table(NASTY[0], (NASTY[1], NASTY[2], "reason"), rows, NASTY[3])], figures={}, captions={},
        details=[("Protocol", [(NASTY[0], NASTY[1])])],
    )  # fmt: skip


def test_other_peoples_text_stays_text_in_tables(tmp_path: Path) -> None:
    (tmp_path / "evaluation.html").write_text(nasty_tables(), "utf-8")
    page = read(tmp_path / "evaluation.html")
    assert_self_contained(page)
    for text in NASTY[:4]:
        assert plain(text) in page.words()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("kind", ["run", "tables"])
def test_a_browser_sees_text_where_markup_was_meant(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.html"
    if kind == "run":
        path = write_report(nasty_run(tmp_path / "run"))
    else:
        path.write_text(nasty_tables(), "utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path}/c")
    done = subprocess.run(
        ["chromium", *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    seen = done.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen and "&lt;img src=x onerror=alert(1)&gt;" in seen
    ours = r"<script( type=\"application/json\" id=\"scenes\")?>.*?</script>"
    seen, scripts = re.subn(ours, "", seen, flags=re.DOTALL)
    assert scripts == (3 if kind == "run" else 0)
    assert not re.search(r"<(script|img|iframe|object|base|form)[\s>]", seen)
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', seen)), "no handler"
    assert "default-src 'none'" in seen and 'http-equiv="Content-Security-Policy"' in seen


def test_other_peoples_text_stays_text(tmp_path: Path) -> None:
    page = read(write_report(nasty_run(tmp_path)))
    assert_self_contained(page)
    assert_references_resolve(page)
    words = page.words()
    for text in NASTY[:4]:
        assert plain(text) in words
    assert "{{ 7*7 }}" in words and "\u202e" not in words and "\x00" not in words


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("shortlist/001.cif", "shortlist/001.cif"),
        ("NaCl #1.cif", "shortlist/NaCl%20%231.cif"),
        ("javascript:alert(1)//.cif", None),
        ("../../secret.cif", None),
        ("/etc/hosts.cif", None),
        ("//host/x.cif", None),
        ("shortlist/page.html", None),
    ],
)
def test_only_files_of_the_run_are_linked(given: str, expected: str | None) -> None:
    shown, link = cif_link(given)
    assert shown.endswith(given)  # shown in any case
    assert link == (expected or "")


# -- runs in which little is left ----------------------------------------------------------------


def test_no_crystal_at_all(tmp_path: Path) -> None:
    empty = CandidateTable.from_crystals(Crystals.empty())
    page = read(write_report(write_run(tmp_path, empty, {"rounds": []})))
    assert_self_contained(page)
    assert "No crystal was generated" in page.words()


def test_every_crystal_failed(tmp_path: Path) -> None:
    table = CandidateTable.from_crystals(Crystals.empty(), {"a": "cut off", "b": "cut off"})
    zero = rates(**{k: 0.0 for k in ("valid", "stable", "unique", "novel", "sun", "vsun")})
    page = read(write_report(write_run(tmp_path, table, {"rounds": [{"round": 0, **zero}]})))
    assert "None of them is valid, stable, unique and novel" in page.words()
    assert "Nothing survived" in page.words() and "cut off" in page.words()


def test_a_table_without_any_extra_column(tmp_path: Path) -> None:
    page = read(write_report(write_run(tmp_path, CandidateTable.from_crystals(crystals(3)), {})))
    assert_self_contained(page)
    words = page.words()
    assert "3 crystals were generated" in words and "not judged" in words
    assert "None of them is valid" in words  # what was not judged has not passed


@pytest.mark.parametrize("part", range(5))
def test_any_column_may_be_missing_or_null(tmp_path: Path, part: int) -> None:
    frame = candidates().frame
    extra = list(frame.columns[7:])
    missing, empty = extra[part::5], extra[(part + 1) % 5 :: 5]
    nulls = {name: pd.Series([None] * len(frame), dtype=frame[name].dtype) for name in empty}
    table = CandidateTable(frame.assign(**nulls).drop(columns=missing))
    page = read(write_report(write_run(tmp_path, table)))
    assert_self_contained(page)
    assert_references_resolve(page)


def test_one_round(tmp_path: Path) -> None:
    frame = candidates().frame
    table = CandidateTable(frame[frame["round"] == 0].reset_index(drop=True))
    page = read(write_report(write_run(tmp_path, table, METRICS | {"rounds": METRICS["rounds"][:1]})))
    assert "21 crystals were generated, relaxed" in page.words()
    assert "after refinement" not in page.words()


def test_nearest_misses_when_nothing_survived(tmp_path: Path) -> None:
    frame = candidates().frame
    survivors = (frame[["valid", "unique", "novel", "stable"]].fillna(False)).all(axis=1)
    kept = ~survivors & ~frame["id"].isin(["base-002", "base-003"])
    table = CandidateTable(frame[kept].assign(shortlist_rank=pd.NA).reset_index(drop=True))
    run = write_run(tmp_path, table)
    results = read_results(run)
    missed = near_misses(results)
    energies = numbers(results.frame, "e_above_hull")
    counts = [len(texts) for _, texts in missed]
    assert counts == sorted(counts) and counts[0] == 1
    assert {results.frame["id"][row] for row, texts in missed if texts == ("not novel",)} == {
        "base-008",
        "base-028",
    }
    single = [energies[row] for row, texts in missed if len(texts) == 1]
    assert single == sorted(single)
    page = read(write_report(run))
    assert "Nothing survived: the nearest misses" in page.words()
    assert "not stable (0.010 eV/atom above the limit)" in page.words()
    assert page.values("class").count("cell") == len(missed) == 10


def test_survivors_without_a_short_list(tmp_path: Path) -> None:
    table = CandidateTable(candidates().frame.drop(columns="shortlist_rank"))
    words = read(write_report(write_run(tmp_path, table))).words()
    assert "8 crystals met all four criteria, but none was put on the short list." in words
    assert "was not chosen for the short list" in words


def test_a_structure_that_cannot_be_drawn_does_not_spoil_the_page(tmp_path: Path) -> None:
    frame = candidates().frame.copy()
    first = frame.index[frame["shortlist_rank"] == 1][0]
    frame.at[first, "lattice"] = np.zeros(9)
    page = read(write_report(write_run(tmp_path, CandidateTable(frame))))
    assert "no picture: the cell has no volume" in page.words()


# -- what is missing or broken -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["candidates.parquet", "metrics.json", "config.json", "run.json"])
def test_a_missing_file_names_the_verb_that_makes_it(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"{re.escape(name)} is missing: `crysjepa discover` makes it"
    ):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["candidates.parquet", "metrics.json", "config.json"])
def test_a_broken_file_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes(b"\xff\x00 not this")
    with pytest.raises(ValueError, match=re.escape(name)):
        write_report(run)


def test_a_rate_that_is_no_fraction_is_refused(tmp_path: Path) -> None:
    metrics = {"rounds": [{"round": 0, "valid": 80}]}
    with pytest.raises(ValueError, match=r"rounds\[0\].valid is 80, not a fraction"):
        write_report(write_run(tmp_path, metrics=metrics))


# -- counts --------------------------------------------------------------------------------------


def test_funnel_counts_and_reasons(run: Path) -> None:
    results = read_results(run)
    first, second = (funnel(results, part) for part in results.rounds)
    assert [s.name for s in first] == ["generated", "relaxed", "valid", "unique", "novel", "stable"]
    # Of 20 fates: 0 and 1 do not relax, 2 to 4 are invalid, 7 is a copy, 8 is known, 11 to 19 unstable.
    assert [s.left for s in second] == [20, 18, 15, 14, 13, 4]
    assert [s.left for s in first] == [21, 18, 15, 14, 13, 4]
    assert second[1].why == (("forces of … eV/Å", 2),)
    assert second[3].why == (("not unique", 1),)
    assert sum(s.lost for s in first) == 21 - 4
    found = {(r.stage, r.text): r.counts for r in reasons(results)}
    assert found["stability", "… above 0.1"] == (9, 9)
    assert found["read", "the file ends within a loop"] == (1, 0)
    assert sum(r.total for r in reasons(results)) == len(results.frame) - len(results.candidates.ok_ids)


def test_what_was_not_worth_relaxing_is_a_step(tmp_path: Path) -> None:
    run = write_run(tmp_path, metrics={"protocol": {"oversample": 3, "screen_by": "jepa-relaxed"}})
    results = read_results(run)
    first = funnel(results, results.rounds[0])
    num = int(results.rounds[0].rows.sum())
    assert [(s.name, s.left, s.lost) for s in first[:2]] == [
        ("generated", 3 * num, 0),
        ("screened", num, 2 * num),
    ]
    [(why, lost)] = first[1].why
    assert why.endswith("or not among the best by jepa-relaxed") and lost == 2 * num
    told = headline(results, 1, 1)
    assert told.startswith(f"{3 * len(results.frame)} crystals were generated")
    assert f"the best {len(results.frame)} of them by jepa-relaxed chosen" in told


def test_a_repeat_of_an_earlier_round_is_not_counted_twice(tmp_path: Path) -> None:
    table = candidates()
    [first, *_] = [i for i in table.ok_ids if i.endswith("025")]
    table = table.decide("uniqueness", {first: "repeats base-005 of an earlier round"}, Status.REJECTED)
    results = read_results(write_run(tmp_path, table))
    steps = funnel(results, results.rounds[1])
    assert [s.left for s in steps] == [20, 18, 15, 13, 12, 3]
    assert ("repeats base-005 of an earlier round", 1) in steps[3].why


def test_a_crystal_that_could_not_be_embedded_was_judged_all_the_same(tmp_path: Path) -> None:
    table = candidates()
    table = table.decide("canonicalise", {"base-025": "no reduced cell"}, Status.FAILED)
    results = read_results(write_run(tmp_path, table))
    assert [s.left for s in funnel(results, results.rounds[1])] == [20, 18, 15, 14, 13, 4]


def test_cif_files_are_found_by_their_rank(tmp_path: Path) -> None:
    run = write_run(tmp_path, CandidateTable(candidates().frame.drop(columns="cif_file")))
    (run / "shortlist").mkdir()
    for name in ("002-NaCl-base-026.cif", "readme.cif", "x.txt"):
        (run / "shortlist" / name).touch()
    page = read(write_report(run))
    names = [v for v in page.values("download") if v.endswith(".cif")]
    assert len(names) == 6 and names[1] == "002-NaCl-base-026.cif" and "shortlist/002-NaCl" in page.words()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 4), min_size=1, max_size=12))
def test_funnel_never_grows_and_loses_nothing(judged: list[tuple[Any, ...]]) -> None:
    table = CandidateTable.from_crystals(crystals(len(judged)))
    names = ("valid", "unique", "novel", "stable")
    for name, column in zip(names, zip(*judged, strict=True), strict=True):
        table = table.with_column(name, dict(zip(table.ids, column, strict=True)), "boolean")
    everything = Round(0, "base", np.ones(len(table), dtype=bool), {})
    steps = funnel(Results(table, (everything,), {}, {}, {}, None, {}), everything)
    assert steps[-1].left == sum(all(row) for row in judged)
    assert [a.left - b.left for a, b in itertools.pairwise(steps)] == [s.lost for s in steps[1:]]
    assert all(s.lost == sum(count for _, count in s.why) for s in steps)


def test_short_list_is_in_the_order_of_its_ranks(run: Path) -> None:
    results = read_results(run)
    rows = shortlist(results)
    assert [results.frame["shortlist_rank"][r] for r in rows] == [1, 2, 3, 4, 5, 6]
    html = write_report(run).read_text(encoding="utf-8")
    table = html[html.index('<table class="cards"') :]
    places = [table.index(results.frame["id"][r]) for r in rows]
    assert places == sorted(places)


# -- figures -------------------------------------------------------------------------------------


def test_histogram_holds_every_energy_and_marks_the_limit(run: Path) -> None:
    results = read_results(run)
    figure = hull_figure(results.frame, results.rounds, results.threshold)
    assert figure is not None and len(figure.axes) == 2
    for axes, part in zip(figure.axes, results.rounds, strict=True):
        coloured = [b for b in axes.containers[1:] for b in b.patches]  # the first container is their ground
        share = 100 * 18 / part.rows.sum()
        assert sum(bar.get_height() for bar in coloured) == pytest.approx(share)
        inside = sum(b.get_height() for b in coloured if b.get_x() + b.get_width() <= 0.1 + 1e-9)
        energies = numbers(results.frame, "e_above_hull")[part.rows]
        edge = (energies < 0.1 - 1e-9).sum()  # a histogram's bins are closed on the left
        assert inside == pytest.approx(100 * edge / part.rows.sum())
        assert any(line.get_xdata()[0] == 0.1 for line in axes.lines)
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "base, 9 of 21 within the limit",
        "refined, 9 of 20 within the limit",
    ]


def test_map_labels_cover_neither_each_other_nor_stars(run: Path) -> None:
    results = read_results(run)
    rows = shortlist(results)
    labels = {row: f"{i + 1} Na₃Cl₂" for i, row in enumerate(rows)}
    figure = map_figure(results.frame, results.rounds, results.reference_map, labels)
    assert figure is not None
    axes = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in axes.texts]
    assert len(boxes) == len(rows)
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes) if i < j and a.overlaps(b)]
    x, y = numbers(results.frame, "map_x")[rows], numbers(results.frame, "map_y")[rows]
    for point in axes.transData.transform(np.stack([x, y], axis=1)):
        assert not any(Bbox.from_extents(*(point - 2), *(point + 2)).overlaps(box) for box in boxes)


def test_rates_figure_shows_values_and_intervals(run: Path) -> None:
    figure = rates_figure(read_results(run).rounds)
    assert figure is not None
    together = figure.axes[1]
    points = {round(float(line.get_xdata()[0]), 6) for line in together.lines if len(line.get_xdata()) == 1}
    assert points == {30.0, 20.0, 35.0}
    spans = [tuple(np.round(line.get_xdata(), 6)) for line in together.lines if line.get_linewidth() == 2.4]
    assert (30.0, 40.0) in spans and (15.0, 25.0) in spans


@pytest.mark.parametrize("share", [0.0, 0.97, 1.0])
def test_labels_of_rates_lie_within_their_panel_and_apart(share: float) -> None:
    keys = ("valid", "stable", "unique", "novel", "sun", "vsun", "vsun_new_formula", "vsun_supported")
    entry: dict[str, Any] = dict.fromkeys(keys, share) | {"num_crystals": 60}
    entry["intervals"] = {key: [max(0.0, share - 0.05), min(1.0, share + 0.05)] for key in keys}
    rounds = [Round(i, f"round {i}", np.zeros(0, dtype=bool), entry) for i in range(4)]
    figure = rates_figure(rounds)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        renderer = canvas.get_renderer()
        boxes = [Text.get_window_extent(t, renderer) for t in axes.texts]
        assert len(boxes) == 16
        assert all(b.x1 <= axes.bbox.x1 and b.x0 >= axes.bbox.x0 for b in boxes)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_there_is_no_figure_without_data(run: Path) -> None:
    frame = read_results(run).frame.drop(columns=["e_above_hull", "map_x"])
    assert hull_figure(frame, read_results(run).rounds, 0.1) is None
    assert map_figure(frame, read_results(run).rounds, None, {}) is None
    assert rates_figure(()) is None


# -- pictures ------------------------------------------------------------------------------------


def circles(svg: str) -> Counter[str]:
    return Counter(re.findall(r'fill="url\(#p-(\w+)\)"', svg))


def test_rock_salt_has_its_corners_edges_and_faces() -> None:
    # 8 corners and 6 faces of one element; 12 edges and the centre of the other.
    for cell in (rock_salt(), rock_salt().get_primitive_structure()):
        picture = draw_structure(Crystals.from_structures([cell]), "p")
        assert sorted(circles(picture.svg).values()) == [13, 14]
        assert [e.symbol for e in picture.legend] == ["Na", "Cl"]
        assert picture.label == "Unit cell with 4 Na and 4 Cl atoms"


def test_nearer_atoms_are_drawn_later() -> None:
    cell = Structure(
        Lattice.orthorhombic(9, 4, 4.5), ["Li", "K", "O"], [[0.1, 0.4, 0.5], [0.9, 0.6, 0.5], [0.5] * 3]
    )
    drawn = re.findall(r'fill="url\(#p-(\w+)\)"', draw_structure(Crystals.from_structures([cell]), "p").svg)
    assert len(drawn) == 3
    rotated = Structure(
        Lattice(cell.lattice.matrix @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].T),
        cell.species,
        cell.frac_coords,
    )
    again = draw_structure(Crystals.from_structures([rotated]), "p").svg
    assert Counter(re.findall(r'fill="url\(#p-(\w+)\)"', again)) == Counter(drawn)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=9, max_size=9).map(lambda v: np.array(v).reshape(3, 3)))
def test_view_is_a_rotation_with_c_upwards(lattice: np.ndarray) -> None:
    if abs(np.linalg.det(lattice)) < 1e-2:
        return
    view = view_of(lattice)
    np.testing.assert_allclose(view.T @ view, np.eye(3), atol=1e-9)
    assert np.linalg.det(view) == pytest.approx(1)  # no mirror image
    right, up, _ = lattice[2] @ view
    assert right == pytest.approx(0, abs=1e-9) and up > 0


@pytest.mark.parametrize(
    ("lattice", "coords", "number_", "reason"),
    [
        (np.zeros((3, 3)), [[0, 0, 0]], 11, "no volume"),
        (np.eye(3) * 4, [[0, np.nan, 0]], 11, "not a finite number"),
        (np.eye(3) * 4, [[0, 0, 0]], 200, "not that of an element"),
    ],
)
def test_what_cannot_be_drawn_says_why(lattice: Any, coords: Any, number_: int, reason: str) -> None:
    crystal = Crystals(np.array([number_]), np.array(coords), lattice[None], np.array([1]), ("x",))
    with pytest.raises(ValueError, match=reason):
        draw_structure(crystal, "p")


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Li2O", "Li<sub>2</sub>O"),
        ("Ca(Al2O4)10", "Ca(Al<sub>2</sub>O<sub>4</sub>)<sub>10</sub>"),
        ("<b>2", "&lt;b&gt;2"),
        ("1" * 5000 + "!", "1" * 5000 + "!"),
    ],
)
def test_formula(text: str, expected: str) -> None:
    assert str(formula(text)) == expected


def test_space_group_and_number() -> None:
    assert str(space_group("P2_1/c")) == "P2<sub>1</sub>/c"
    assert str(space_group("Fm-3m")) == 'Fm<span class="bar">3</span>m'
    assert str(space_group("<i>")) == "&lt;i&gt;"
    assert number(-0.0004) == "0.000" and number(-1.25, 1) == "−1.2" and number(None) == "–"
    assert [significant(v) for v in (1.48, 123456.0, -0.5, None)] == ["1.480", "1.235e+05", "−0.5000", "–"]
