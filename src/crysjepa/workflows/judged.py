"""The result of judging tables in memory."""

from __future__ import annotations

import shutil
import weakref
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from crysjepa.core.candidates import CandidateTable
from crysjepa.report.evaluation_figures import energies_figure
from crysjepa.report.results import numbers
from crysjepa.report.svg import inline_svg


class Evaluation:
    """What :func:`crysjepa.evaluate` and :func:`crysjepa.compete` found.

    A notebook shows rates and energies.

    Attributes
    ----------
    metrics
        Rates with their intervals, and what they are relative to: ``metrics.json``.
    crystals
        Every crystal with its verdicts: ``crystals.parquet``.
    """

    def __init__(self, folder: Path, metrics: dict[str, Any]) -> None:
        self.metrics = metrics
        self.crystals = CandidateTable.read(folder / "crystals.parquet")
        self._folder = folder
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def table(self) -> pd.DataFrame:
        """Every crystal with its verdicts, by id, without the columns of the structure."""
        structure = ["atomic_numbers", "frac_coords", "lattice"]
        return self.crystals.frame.drop(columns=structure).set_index("id")

    def write(self, out: str | Path) -> Path:
        """All files of ``crysjepa evaluate`` into a new folder; the page's path is returned.

        Raises FileExistsError if the folder is there.
        """
        shutil.copytree(self._folder, out, ignore=shutil.ignore_patterns(".lock", "relax", "trust"))
        return Path(out) / "evaluation.html"

    def rates(self) -> pd.DataFrame:
        """Each rate with its 95 % interval (Wilson), of all crystals."""
        intervals = self.metrics["intervals"]
        rows = {name: (self.metrics.get(name), *(intervals[name] or (None, None))) for name in intervals}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["rate", "low", "high"])

    def figure(self) -> Figure | None:
        """Energies above hull of all crystals; None where stability was not judged."""
        limit = self.metrics["protocol"]["e_above_hull_max"]
        return energies_figure({"all crystals": numbers(self.crystals.frame, "e_above_hull")}, limit)

    def __repr__(self) -> str:
        metrics, vsun = self.metrics, self.metrics.get("vsun")
        found = "stability not judged" if vsun is None else f"{100 * vsun:.1f} % V.S.U.N."
        relative = f"hull {metrics['hull']}, judge {metrics['judge']}, novelty set {metrics['novelty_set']}"
        return f"<Evaluation of {metrics['num_crystals']} crystals: {found}; {relative}>"

    def _repr_html_(self) -> str:
        rates = self.rates().dropna(subset="rate")
        table = rates.to_html(float_format=lambda x: f"{100 * x:.1f} %", border=0)
        figure = inline_svg(self.figure(), "energies", "Energies above hull")
        return f"<p>{escape(repr(self).strip('<>'))}</p>{table}{figure or ''}"
