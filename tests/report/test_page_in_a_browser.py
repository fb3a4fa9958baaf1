"""The page in Chromium: it sorts, filters and draws, asks for nothing, and runs no text of a run's.

Needs Debian's chromium and the package playwright, which drives it; no browser is downloaded.
"""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_page import candidates, columns, crystals, write_run

from crysjepa.core.candidates import CandidateTable
from crysjepa.report import write_report

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.slow,  # a browser starts, and draws without a graphics card
]
OPTIONS = (
    "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
MARKUP = "<img src=x onerror=alert(1)>"
FORMULA = "</script><script>alert(2)</script>"
WAIT = 60_000


def table() -> CandidateTable:
    """Six on the short list: energies that sort otherwise as text, one without; an id and a formula that
    are markup."""
    frame = candidates().frame.copy()
    rows = frame.index[frame["shortlist_rank"].notna()]
    rows = sorted(rows, key=lambda row: frame.at[row, "shortlist_rank"])
    frame.loc[rows, "e_above_hull"] = [0.02, -0.003, 0.1, 0.004, None, -0.05]
    frame.loc[rows, "formula"] = ["NaCl", "KBr", FORMULA, "Na2O", "LiF", "MgO"]
    frame.loc[rows[2], "id"] = MARKUP
    frame.loc[rows[2], "reason"] = MARKUP
    table = CandidateTable(frame)
    new = ["new formula", "known formula"] * 3
    ids = frame.loc[rows, "id"]
    return columns(table, novelty_grade=("string", dict(zip(ids, new, strict=True))))


class Seen:
    """A page that is open, and what it did."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def shown(self) -> list[str]:
        """Formulas of the rows that can be seen, in their order."""
        found = self.page.locator("#cards > tbody:visible .crystal strong").all_inner_texts()
        return [text.strip() for text in found]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, timeout=2 * WAIT)
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("page") / "run", table()))


@pytest.fixture
def seen(browser: Any, path: Path) -> Iterator[Seen]:
    """A page of its own; whatever a test does with it, nothing is complained of and nothing asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    open_ = Seen(context.new_page())
    open_.page.goto(path.as_uri())
    yield open_
    said, asked = open_.said, open_.asked
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_a_column_is_sorted_as_numbers_and_again_the_other_way(seen: Seen) -> None:
    as_listed = ["NaCl", "KBr", FORMULA, "Na2O", "LiF", "MgO"]
    assert seen.shown() == as_listed
    button = seen.page.locator("#cards thead button", has_text="Energy above hull")
    heading = seen.page.locator("#cards thead th", has_text="Energy above hull")
    button.focus()
    seen.page.keyboard.press("Enter")  # by the keyboard
    assert seen.shown() == ["MgO", "KBr", "Na2O", "NaCl", FORMULA, "LiF"]  # without an energy: last
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert seen.shown() == [FORMULA, "NaCl", "Na2O", "KBr", "MgO", "LiF"]
    assert heading.get_attribute("aria-sort") == "descending"
    seen.page.locator("#cards thead button", has_text="Rank").click()
    assert seen.shown() == as_listed
    assert seen.page.locator("#cards thead th[aria-sort]").count() == 1


def test_the_list_is_filtered_by_words_and_by_what_crystals_are(seen: Seen) -> None:
    find = seen.page.locator("#find")
    find.fill("na2")  # a part of a formula, whatever its case
    assert seen.shown() == ["Na2O"]
    assert seen.page.locator("#shown").inner_text() == "1 of 6 shown"
    find.fill("Na Cl")  # elements: all structures here are of Na and Cl, whatever the formula says
    assert len(seen.shown()) == 6
    find.fill("Mg")
    assert seen.shown() == []
    find.fill("")
    seen.page.get_by_label("new formula").check()
    assert seen.shown() == ["NaCl", FORMULA, "LiF"]
    find.fill("base-")
    assert seen.shown() == ["NaCl", "LiF"]  # the other one's id is markup


def test_the_viewer_draws_the_crystal_that_was_asked_for(seen: Seen) -> None:
    seen.page.locator("button.view").nth(1).click()
    assert seen.page.locator("#viewed").inner_text().startswith("KBr base-")
    canvas = seen.page.locator("#stage canvas")
    canvas.wait_for()
    seen.page.wait_for_timeout(500)
    drawn = np.asarray(Image.open(io.BytesIO(seen.page.locator("#stage").screenshot())).convert("RGB"))
    red, green, blue = drawn.astype(int).reshape(-1, 3).T
    chlorine = (green > red + 60) & (green > blue + 60)  # Jmol's colours: green, and sodium's violet
    sodium = (blue > green + 60) & (red > green + 30)
    assert chlorine.sum() > 500 and sodium.sum() > 500
    seen.page.locator("#close").click()
    assert not seen.page.locator("#viewer").is_visible()


def test_text_of_a_run_stays_text_whatever_is_done_with_it(seen: Seen) -> None:
    row = seen.page.locator("#cards > tbody").nth(2)
    assert row.locator("code.id").first.inner_text() == MARKUP
    row.locator("summary").click()
    assert MARKUP in row.locator(".verdicts").inner_text()
    row.locator("button.view").click()
    assert seen.page.locator("#viewed").inner_text() == f"{FORMULA} {MARKUP}"
    counts = "['img', 'iframe', 'form'].map((tag) => document.querySelectorAll(tag).length)"
    assert seen.page.evaluate(counts) == [0, 0, 0]
    assert seen.page.evaluate("document.scripts.length") == 3
    assert seen.page.evaluate("document.querySelectorAll('[onerror], [onload], [onclick]').length") == 0


def test_a_script_that_is_not_ours_does_not_run(browser: Any, path: Path, tmp_path: Path) -> None:
    """The policy holds by itself, were the escaping to fail."""
    broken = tmp_path / "broken.html"
    html = path.read_text("utf-8").replace("<main>", "<main><script>document.title = 'run'</script>", 1)
    handlers = '<h1 onclick="document.title = 1"><img src="data:," onerror="alert(1)">'
    broken.write_text(html.replace("<h1>", handlers, 1))
    context = browser.new_context()
    open_ = Seen(context.new_page())
    open_.page.goto(broken.as_uri())
    open_.page.locator("h1").dispatch_event("click")
    assert open_.page.title() == "Crystal discovery report"
    assert "a dialog" not in open_.said and any("Content Security Policy" in text for text in open_.said)
    context.close()


def test_files_come_out_of_the_page_itself(seen: Seen) -> None:
    def saved(name: str) -> bytes:
        with seen.page.expect_download(timeout=WAIT) as download:
            seen.page.locator(f'a[download="{name}"]').click()
        return Path(download.value.path()).read_bytes()

    rows = list(csv.DictReader(io.StringIO(saved("crystals.csv").decode())))
    assert [row["formula"] for row in rows] == ["NaCl", "KBr", FORMULA, "Na2O", "LiF", "MgO"]
    assert rows[2]["id"] == MARKUP and "lattice" not in rows[0]
    with zipfile.ZipFile(io.BytesIO(saved("crystals.zip"))) as archive:
        assert archive.namelist() == [f"00{k}.cif" for k in range(1, 7)]
        first = archive.read("001.cif")
    assert saved("001.cif") == first and b"_cell_length_a" in first


def test_nothing_hangs_over_at_400_pixels(seen: Seen) -> None:
    seen.page.set_viewport_size({"width": 400, "height": 800})
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 400
    seen.page.locator("#order").select_option(label="Energy above hull ▲")
    assert seen.shown()[0] == "MgO"
    seen.page.locator("#order").select_option(label="Energy above hull ▼")
    assert seen.shown()[0] == FORMULA


def test_without_scripts_nothing_is_lost_but_the_controls(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#cards > tbody:visible").count() == 6
    assert page.locator('a[download="001.cif"]').is_visible()
    assert not page.locator("#controls").is_visible() and page.locator("button:visible").count() == 0
    context.close()


def test_without_crystals_there_are_no_scripts(browser: Any, tmp_path: Path) -> None:
    failed = CandidateTable.from_crystals(crystals(0), {"a": "cut off"})
    path = write_report(write_run(tmp_path / "run", failed))
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.scripts.length") == 0
    context.close()
