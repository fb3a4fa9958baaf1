"""The documentation as a site: all pages are in the menu, no link leads nowhere. Needs no mkdocs."""

import json
import re
from functools import cache
from pathlib import Path

import docs_hooks
import docs_reference
import pytest
import yaml

from crysjepa.core.symmetry import space_groups

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
GENERATED = {
    docs_reference.COMMAND_LINE, docs_reference.PYTHON, *(f"tutorials/{n.stem}.md" for n in NOTEBOOKS),
}  # fmt: skip
LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")


class Settings(yaml.SafeLoader):
    """YAML whose Python objects are left out."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


@cache
def settings():
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=Settings)


def entries(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else entries(value)


def text_of(page):
    """The page without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def slug(heading):
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def anchors(page):
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text_of(page), flags=re.MULTILINE):
        of_it = slug(heading)
        found.append(f"{of_it}-{found.count(of_it)}" if of_it in found else of_it)
    return found


def test_slugs_are_githubs():
    assert slug("A third of the hull, held out") == "a-third-of-the-hull-held-out"
    assert slug("Ranking (WBM, `DFT`) – [a link](x.md)") == "ranking-wbm-dft--a-link"


def test_every_page_is_in_the_menu_and_every_entry_is_there():
    listed = list(entries(settings()["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) == {page.name for page in PAGES} | GENERATED


def test_warnings_are_errors_and_nothing_comes_from_elsewhere():
    assert settings()["strict"] is True and settings()["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript"} & set(settings())
    for hook in settings()["hooks"]:
        assert (ROOT / hook).is_file()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(text_of(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.fixture
def docs(tmp_path):
    for file in ("docs/page.md", "docs/a.svg", "docs/examples/one.cif", "src/module.py", "README.md"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path / "docs"


@pytest.mark.parametrize(
    "target", ["page.md", "#b", "page.md#b", "https://b.c/d", "mailto:a@b.c", "examples/one.cif"]
)
def test_links_within_the_site_stay(docs, target):
    text = f"See [a]({target}) and ![b](a.svg)."
    assert docs_hooks.rewritten(text, "page.md", docs, None) == text
    assert docs_hooks.rewritten(text, "page.md", docs, "https://a.b/c") == text


@pytest.mark.parametrize(
    "link, code, path",
    [
        ("[how](../src/module.py)", "how (`src/module.py`)", "blob/HEAD/src/module.py"),
        ("[how\nso](../src/module.py)", "how\nso (`src/module.py`)", "blob/HEAD/src/module.py"),
        ("[`README.md`](../README.md#verbs)", "`README.md`", "blob/HEAD/README.md#verbs"),
        ("[files](examples)", "files (`docs/examples`)", "tree/HEAD/docs/examples"),
    ],
)
def test_links_that_leave_the_site(docs, link, code, path):
    assert docs_hooks.rewritten(f"See {link}.", "page.md", docs, None) == f"See {code}."
    text = link[1:].partition("](")[0]
    led = docs_hooks.rewritten(f"See {link}.", "page.md", docs, "https://a.b/c/")
    assert led == f"See [{text}](https://a.b/c/{path})."


def test_links_to_nothing_are_errors(docs):
    for target in ("../src/other.py", "../../elsewhere.md"):
        with pytest.raises(ValueError, match="not there"):
            docs_hooks.rewritten(f"[a]({target})", "page.md", docs, None)


def test_roles_of_sphinx_are_left_out():
    html = docs_hooks.on_page_content("See :func:<code>x</code> and :class:<code>y</code>.", None, None, None)
    assert html == "See <code>x</code> and <code>y</code>."


def test_the_command_lines_page_has_every_verb_and_option():
    page = docs_reference.command_line()
    for name in ("crysjepa discover", "crysjepa screen", "crysjepa data fetch", "crysjepa dft run"):
        assert f"\n## {name}\n" in page
    assert "| `--by` | `jepa-hull` |" in page and "| `SOURCE` | required |" in page
    assert "| `--out`, `-o` | required |" in page and "| `--relax`, `--no-relax` |" in page
    verbs = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert all("```sh\ncrysjepa " in verb for verb in verbs), "each has its example"


def test_the_python_page_has_every_public_name():
    page = docs_reference.python()
    assert "::: crysjepa.rank" in page and "::: crysjepa.api.screen" in page


def test_the_example_of_a_generator_of_ones_own_works(tmp_path):
    page = (DOCS / "generate.md").read_text(encoding="utf-8")
    code = page.split("## A generator of your own")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code, names)
    made = names["Heuslers"](None)
    samples = made.sample(3, seed=1, prefix="x")
    assert samples.crystals.ids == ("x-0", "x-1", "x-2") and samples.failures == {}
    assert samples.crystals.num_atoms.tolist() == [4] * 3
    assert set(space_groups(samples.crystals, 0.1).values()) == {225}
    learnt = made.finetune(samples.crystals, None)
    assert made.weights.sum() == made.weights.size, "it is left as it was"
    assert learnt.weights.sum() == made.weights.size + 2 * 9, "three elements of each crystal"
    learnt.save(tmp_path / "learnt")
    again = made.load(tmp_path / "learnt").sample(3, seed=1)
    assert again.crystals.content_hash() == learnt.sample(3, seed=1).crystals.content_hash()


def test_the_tutorials_generator_is_that_of_the_page():
    page = (DOCS / "generate.md").read_text(encoding="utf-8")
    code = page.split("## A generator of your own")[1].split("```python\n")[1].split("```")[0]
    notebook = json.loads((DOCS / "tutorials" / "refine.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"]]
    assert f"%%writefile my_package.py\n{code}".rstrip() in cells


def test_the_readmes_table_has_only_figures_of_the_pages_that_it_links():
    part = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it is worth")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| [")]
    assert len(rows) >= 6
    for row in rows:
        what, *cells = row.strip("| ").split(" | ")
        pages = [ROOT / target.split("#")[0] for target in LINK.findall(what)]
        text = " ".join(page.read_text(encoding="utf-8") for page in pages)
        for figure in re.findall(r"\d+(?:[.,]\d+)*", " ".join(cells[:3]).replace("1, CHGNet", "")):
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", text), (what, figure)


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
