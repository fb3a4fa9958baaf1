"""The tables of docs/judges.md: what the code knows of each force field, and what was measured of it.

python tools/judges_table.py        # writes them anew, from the code and docs/results_force_fields.md
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from crysjepa.relaxation.force_fields.entries import ENTRIES, Entry
from crysjepa.relaxation.force_fields.provenance import PROVENANCE
from crysjepa.relaxation.force_fields.registry import wrapped_by_torch_sim
from crysjepa.runtime.files import write_text

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "judges.md", ROOT / "docs" / "results_force_fields.md"
BEGIN, END = "<!-- by tools/judges_table.py -->\n", "<!-- to here -->\n"
UNMEASURED = "not measured here: weights could not be downloaded"


def main() -> None:
    """Write the page anew."""
    write_text(PAGE, renewed(PAGE.read_text(encoding="utf-8"), RESULTS.read_text(encoding="utf-8")))


def renewed(page: str, results: str) -> str:
    """The page with its tables as they are to be."""
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:before] + tables(results) + page[after:]


def tables(results: str) -> str:
    """Both, from what the code knows and the page of results says."""
    models = []
    worth = []
    for name, entry in ENTRIES.items():
        made, by_torch_sim = PROVENANCE[name], "yes" if wrapped_by_torch_sim(name) else "no"
        models.append((f"`{name}`", entry.model, library(entry), weights(name), by_torch_sim))
        licences = (made.code_licence, f"[{made.licence}]({made.source})")
        worth.append((f"`{name}`", *licences, made.trained_on, *measured(name, results)))
    return "\n".join(
        [
            _table(("name", "model", "library", "weights", "torch-sim"), models),
            _table(
                (
                    "name", "licence of the code", "of the weights", "trained on",
                    "agrees with DFT at 0.1 eV/atom", "crystals a second of one core",
                ),
                worth,
            ),
        ]
    )  # fmt: skip


def library(entry: Entry) -> str:
    """The versions that crysjepa asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = re.search(r"\[(\w+)\]", entry.install)
    asked = project["optional-dependencies"][extra[1]] if extra else project["dependencies"]
    of_it = [a.replace("'", "") for a in asked if re.split("[<>=]", a)[0] == entry.package]
    return " or ".join(f"`{a.split(';')[0]}`{_python(a)}" for a in of_it)


def _python(asked: str) -> str:
    _, _, marker = asked.partition(";")
    return f" ({marker.strip().replace('python_version', 'Python')})" if marker else ""


def weights(name: str) -> str:
    """Their file and SHA-256, or where they come from."""
    made = PROVENANCE[name]
    file = made.weights.rsplit("/", 1)[1]
    if made.sha256 is not None:
        return f"`{file}`, with the package; SHA-256 `{made.sha256}`"
    how = "downloaded" if made.fetched else "your file, from"
    return f"{how}: [{file}]({made.weights})"


def measured(name: str, results: str) -> tuple[str, str]:
    """Of 1000 crystals of MP-20: the share that agrees, with its references; and the speed."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in results.splitlines()
        if re.match(rf"\| {name} ", line)
    ]
    speed = re.search(rf"^{name}, meV/atom: .* ([\d.]+) crystals a second of one core", results, re.MULTILINE)
    if not rows or speed is None:
        return UNMEASURED, "–"
    best = max(rows, key=lambda row: float(row[5].split("%")[0]))
    return f"{best[5]}, references {best[1]}", speed[1]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
