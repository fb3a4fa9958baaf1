"""Notebooks as pages of the documentation."""

import base64
import json
from pathlib import Path

import docs_notebooks
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def data(**kinds):
    return {"output_type": "display_data", "data": {k.replace("_", "/"): v for k, v in kinds.items()}}


def test_cells_become_markdown():
    picture = base64.b64encode(b"png").decode()
    stream = {"output_type": "stream", "name": "stdout", "text": ["\x1b[1mone\x1b[0m\n", "two\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "text"]},
        code("x = 1\nx", stream, data(text_html="<table>\n\n<tr></tr></table>", text_plain="no")),
        code("plot()", data(image_png=picture, text_plain="<Figure>")),
        code("  "),
    ]
    text, pictures = docs_notebooks.page({"cells": cells}, "name")
    assert "# A title\ntext" in text
    assert "```python\nx = 1\nx\n```\n\n```text\none\ntwo\n```" in text
    assert '<div class="output"><table>\n<tr></tr></table></div>' in text
    assert "![what the cell shows](name-0.png)" in text and pictures == {"name-0.png": b"png"}
    assert "<Figure>" not in text


def test_a_cell_that_failed_is_no_page():
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no"}
    with pytest.raises(ValueError, match="a cell ended in ValueError: no"):
        docs_notebooks.page({"cells": [code("x", error)]}, "name")


def test_long_output_is_cut():
    stream = {"output_type": "stream", "name": "stdout", "text": "line\n" * 100}
    text, _ = docs_notebooks.page({"cells": [code("x", stream)]}, "name")
    assert text.count("line\n") == docs_notebooks.MAX_LINES and "… and 60 more lines" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorials_ran_and_name_no_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert cells and all(c["execution_count"] for c in cells)
    text, _ = docs_notebooks.page(notebook, path.stem)
    assert str(Path.home()) not in text and "/tmp/" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_tutorials_lead_somewhere(path):
    from test_site import LINK

    text, pictures = docs_notebooks.page(json.loads(path.read_text(encoding="utf-8")), path.stem)
    for target in LINK.findall(text):
        if not target.startswith("http") and target not in pictures:
            assert (path.parent / target.partition("#")[0]).exists(), target
