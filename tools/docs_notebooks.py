"""Notebooks as pages of the documentation: ``docs/tutorials/NAME.ipynb`` is the page ``tutorials/NAME.md``.

    python tools/docs_notebooks.py [NAME ...]

runs the notebooks again, all or those named, and writes them with what they print. That needs the extra
``notebooks``; to build the site does not.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
MAX_LINES = 40
_RICH = '<pre style="white-space:pre'
"""What the library rich shows in a notebook: the bars."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def page(notebook: Mapping[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows by file name."""
    parts, pictures = [], dict[str, bytes]()
    for cell in notebook["cells"]:
        text = _text(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif cell["cell_type"] == "code" and text:
            parts.append(f"```python\n{text}\n```")
            for output in cell["outputs"]:
                picture = f"{name}-{len(pictures)}.png"
                shown, data = _shown(output, picture)
                parts += [shown] if shown else []
                pictures |= {picture: data} if data else {}
    ran = f"This page is the notebook [{name}.ipynb]({name}.ipynb) as it ran."
    return "\n\n".join([*parts, "---", ran]) + "\n", pictures


def _shown(output: Mapping[str, Any], picture: str) -> tuple[str | None, bytes | None]:
    """One output as Markdown, and its picture."""
    if output["output_type"] == "stream":
        return _block(_text(output["text"])), None
    if output["output_type"] == "error":
        raise ValueError(f"a cell ended in {output['ename']}: {output['evalue']}")
    data = output["data"]
    if "image/png" in data:
        return f"![what the cell shows]({picture})", base64.b64decode(_text(data["image/png"]))
    if "text/html" in data:
        # one block of HTML: an empty line would end it
        html = re.sub(r"\n\s*\n", "\n", _text(data["text/html"]).strip())
        return f'<div class="output">{html}</div>', None
    return _block(_text(data.get("text/plain", ""))), None


def _block(text: str) -> str | None:
    lines = _ANSI.sub("", text).rstrip().splitlines()
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"… and {len(lines) - MAX_LINES} more lines"]
    return "```text\n" + "\n".join(lines) + "\n```" if lines else None


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """What mkdocs calls with all files: each notebook gives a page and its pictures."""
    from mkdocs.structure.files import File

    folder = Path(config.docs_dir) / FOLDER.name
    for path in sorted(folder.glob("*.ipynb")):
        text, pictures = page(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"{FOLDER.name}/{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"{FOLDER.name}/{name}", content=data))
    return files


def run(names: Iterable[str]) -> Iterator[Path]:
    """Run notebooks in a folder that goes afterwards, and write them with their outputs.

    Raises nbclient's CellExecutionError where a cell fails: nothing is written then.
    """
    import nbformat
    from nbclient import NotebookClient

    for path in [FOLDER / f"{name}.ipynb" for name in names]:
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = [o for o in map(_without_bars, cell.outputs) if o is not None]
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        }
        nbformat.write(notebook, path)
        yield path


def _without_bars(output: Any) -> Any | None:
    """An output without bars of progress; None if nothing is left, as of what goes to stderr."""
    if output["output_type"] != "stream":
        data = output.get("data", {})
        return None if _RICH in _text(data.get("text/html", "")) else output
    lines = _ANSI.sub("", _text(output["text"])).splitlines(keepends=True)
    output["text"] = "".join(line for line in lines if line.strip("\r\n") and "━" not in line)
    return output if output["name"] != "stderr" and output["text"] else None


if __name__ == "__main__":
    for written in run(sys.argv[1:] or sorted(p.stem for p in FOLDER.glob("*.ipynb"))):
        sys.stdout.write(f"{written}\n")
