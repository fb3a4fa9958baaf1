"""The pages of the documentation that are made from the code whenever the site is built.

``reference/command_line.md`` has every verb with its options, ``reference/python.md`` every public name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

COMMAND_LINE, PYTHON = "reference/command_line.md", "reference/python.md"
"""Where the pages stand on the site."""


def verbs(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every verb of a group of commands, those of groups in it too, by its full name."""
    for own, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from verbs(below, f"{name} {own}")
        elif not below.hidden:
            yield f"{name} {own}", below


def section(name: str, command: Any) -> str:
    """A verb's part of the page: what it does, an example, its arguments and options."""
    text, _, example = (command.help or "").partition("Example: ")
    asked = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    parts = [f"## {name}", " ".join(text.split())]
    if example:
        parts.append("```sh\n" + "\n".join(" ".join(e.split()) for e in example.split("; ")) + "\n```")
    if asked:
        parts.append(_table(("argument", "", "what it is"), [_row(p, p.name.upper()) for p in asked]))
    if options:
        parts.append(_table(("option", "default", "what it does"), [_row(p, *p.opts) for p in options]))
    return "\n\n".join(parts)


def command_line() -> str:
    """The page of the command line, from the application itself."""
    import typer

    from crysjepa.cli.main import app

    said = "Written from the code when the site is built. `crysjepa VERB --help` says the same."
    found = verbs(typer.main.get_command(app), "crysjepa")
    return "\n\n".join(["# Command line", said, *(section(*verb) for verb in found)]) + "\n"


def python() -> str:
    """The page of the Python names: those of ``crysjepa`` and of ``crysjepa.api``."""
    import crysjepa
    from crysjepa import api

    tables = [f"::: crysjepa.{name}" for name in crysjepa.__all__]
    files = [f"::: crysjepa.api.{name}" for name in api.__all__]
    return "\n\n".join(
        [
            "# Python",
            "`import crysjepa as cj`: functions on tables in memory. `crysjepa.api`: the verbs, on files.",
            *("## On tables", *tables, "## On files", *files),
        ]
    )


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """What mkdocs calls when it knows its files: these two are added."""
    from mkdocs.structure.files import File

    for path, content in ((COMMAND_LINE, command_line()), (PYTHON, python())):
        files.append(File.generated(config, path, content=content))
    return files


def _row(parameter: Any, *names: str) -> tuple[str, str, str]:
    shown = ", ".join(f"`{name}`" for name in (*names, *parameter.secondary_opts))
    default = parameter.default
    if parameter.required:
        said = "required"
    elif default is None or callable(default) or isinstance(default, bool):
        said = ""
    else:
        said = f"`{default}`"
    return shown, said, parameter.help or ""


def _table(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    cells = [head, ("---",) * 3, *(tuple(_plain(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _plain(cell: str) -> str:
    """Text for a cell of a table: one line, and nothing in it that Markdown would read."""
    return re.sub(r"([|*_<])", r"\\\1", cell) if "`" not in cell else cell.replace("|", "\\|")
