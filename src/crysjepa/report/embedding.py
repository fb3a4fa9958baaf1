"""The page of ``crysjepa diagnose``: tables, figures and ``diagnosis.html``, from what its folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from crysjepa.report.embedding_figures import atom_figure, crystal_figure, distance_figure, spectrum_figure
from crysjepa.report.html import page_environment
from crysjepa.report.results import plain
from crysjepa.report.svg import save_figures
from crysjepa.report.wording import flat, number, significant
from crysjepa.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS = {"crystals": "crystal_map.parquet", "atoms": "atom_map.parquet"}
"""Where the maps are saved, if there are any."""
FIGURES = {
    "spectrum": "Shares of the variance by direction",
    "distances": "Distance between embeddings against the difference of formation energies",
    "crystals": "Map of the crystals, coloured by formation energy",
    "atoms": "Map of the atoms of the most frequent elements",
}
"""Names of the figures' files, and what is to be seen."""
LIKE = {
    "info-nce": "as in Fig. 3 of the paper",
    "info-nce-unweighted": "as in Fig. 8(a) of the paper: trained without the weights of Eq. 10",
    "sigreg": "as in Fig. 9 of the paper: trained with SIGReg and MSE, without energies",
    "energy": "in the manner of the paper's Fig. 3",
}
"""The figure of the paper that shows an embedding trained for this objective."""


@dataclass(frozen=True)
class Table:
    """A table of text: the first column names the row, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def write_diagnosis(folder: str | Path) -> Path:
    """Write figures (PNG and SVG) and ``diagnosis.html`` from ``diagnosis.json`` and the maps beside it.

    Figures of an earlier diagnosis that this one has not are removed. The same files give the same bytes.

    Raises
    ------
    FileNotFoundError
        If ``diagnosis.json`` or a map that it tells of is missing: ``crysjepa diagnose`` makes them.
    """
    folder = Path(folder)
    result = read_json(folder / "diagnosis.json")
    inline = save_figures(_figures(folder, result), folder, FIGURES)
    html = (
        page_environment()
        .get_template("diagnosis.html.j2")
        .render(
            scripts=(),
            headline=headline(result),
            findings=[f["text"] for f in result["findings"]],
            tables=tables(result),
            figure=inline,
            like=LIKE.get(result["model"]["objective"], ""),
            maps=result["maps"],
            model=list(flat(result["model"])),
            data=list(flat(result["data"])),
            settings=list(flat({"settings": result["settings"], "versions": result["versions"]})),
        )
    )
    path = folder / "diagnosis.html"
    write_text(path, html)
    return path


def headline(result: Mapping[str, Any]) -> str:
    """What it comes to, in a sentence."""
    spread = result["spread"]
    rank = f"{spread['effective_rank']:.1f} of its {spread['width']} dimensions"
    if result["collapsed"]:
        return f"The embedding is collapsed, at least in part: it fills {rank}."
    others = len(result["findings"])
    if others:
        return f"No collapse: the embedding fills {rank}. But {others} other finding{'s' * (others > 1)}."
    return f"No collapse: the embedding fills {rank}, and nothing else stands out."


# -- tables --------------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Every number that is worth a line, as text, for the page and for the terminal."""
    found = [_space(result)]
    if result["agreement"]:
        found.append(_agreement(result))
    if result["readouts"]:
        found.append(_readouts(result))
    if result["dependence"]:
        found.append(_dependence(result))
    if result["skipped"]:
        rows = [(what, plain(why)) for what, why in sorted(result["skipped"].items())]
        found.append(Table("Not measured", ("what", "why"), rows))
    if result["not_embedded"]:
        found.append(_lost(result))
    return found


def _space(result: Mapping[str, Any]) -> Table:
    spread, data = result["spread"], result["data"]
    width = spread["width"]
    distances = (
        f"{significant(spread['typical_distance'])} "
        f"({significant(spread['distance_5_percent'])} to {significant(spread['distance_95_percent'])})"
    )
    rows = [
        ("crystals embedded", f"{spread['num_crystals']:,} of {data['num_sampled']:,}"),
        ("effective rank", f"{number(spread['effective_rank'], 1)} of {width}"),
        ("participation ratio", f"{number(spread['participation_ratio'], 1)} of {width}"),
        ("directions that hold 90 % of the variance", f"{spread['directions_for_90_percent']} of {width}"),
        ("distance between crystals: median (5 % to 95 %)", distances),
        ("length of an embedding: median", significant(spread["typical_length"])),
        ("mean cosine between two crystals", number(spread["mean_cosine"])),
    ]
    return Table("The space that embeddings fill", ("", "value"), rows, sample_note(data))


def sample_note(data: Mapping[str, Any]) -> str:
    """Which crystals were looked at."""
    if data["num_sampled"] < data["num_readable"]:
        return (
            f"A random sample of {data['num_sampled']:,} of {data['num_readable']:,} crystals "
            f"(seed {data['seed']})."
        )
    return f"All {data['num_readable']:,} crystals that could be read."


def _agreement(result: Mapping[str, Any]) -> Table:
    rows = [
        (
            a["scope"],
            f"{a['num_pairs']:,}",
            number(a["spearman"], 3),
            f"{number(a['median_of_groups'], 3)} of {a['num_groups']:,}" if a["num_groups"] else "–",
        )
        for a in result["agreement"]
    ]
    note = "Spearman's correlation of the distance between two embeddings with |ΔE|; 1 is perfect, 0 is none."
    columns = ("", "pairs", "correlation", "median of the groups that have enough pairs")
    return Table("Distance and energy", columns, rows, note)


def _readouts(result: Mapping[str, Any]) -> Table:
    rows = [
        (
            r["name"] + (" (baseline)" if r["kind"] == "baseline" else ""),
            f"{number(r['mae'])} ± {number(r['standard_error'])}",
            number(r["mean_error"]),
        )
        for r in result["readouts"]
    ]
    held = result["held_out"]
    note = (
        f"Learnt from {held['num_known']:,} crystals, judged on {held['num_held_out']:,} of other chemical "
        f"systems; held out {held['how']}. The encoder itself may have been trained on any of them."
    )
    columns = ("", "mean absolute error, eV/atom", "mean error, eV/atom")
    return Table("Energies read out on held-out chemical systems", columns, rows, note)


def _dependence(result: Mapping[str, Any]) -> Table:
    modes = sorted({d["canonical"] for d in result["dependence"]})
    by = {(d["change"], d["canonical"]): d for d in result["dependence"]}
    rows = []
    for change in dict.fromkeys(d["change"] for d in result["dependence"]):
        cells = [by[change, mode] for mode in modes]
        rows.append((change, *(_share(d[k]) for d in cells for k in ("median", "largest"))))
    names = {False: "as it comes", True: "both canonical"}
    columns = tuple(f"{names[m]}: {k}" for m in modes for k in ("median", "largest"))
    unlike = {d["num_crystals"] for d in result["dependence"]}
    count = f"{min(unlike):,}" if len(unlike) == 1 else f"{min(unlike):,} to {max(unlike):,}"
    note = (
        f"How far the embeddings of {count} crystals move when the same crystal is described otherwise, as a "
        "share of the median distance between crystals."
    )
    if result["model"]["invariant"]:
        note += f" The model is invariant by construction: rounding may move it by {result['tolerance']:g}."
    return Table("The same crystal in other words", ("", *columns), rows, note)


def _share(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def _lost(result: Mapping[str, Any]) -> Table:
    why = Counter((entry["stage"] or "", entry["reason"] or "") for entry in result["not_embedded"].values())
    rows = [
        (plain(stage), f"{n:,}", plain(reason, 120))
        for (stage, reason), n in sorted(why.items(), key=lambda item: (-item[1], item[0]))
    ]
    rest = rows[10:]
    if rest:
        many = sum(int(n.replace(",", "")) for _, n, _ in rest)
        rows = [*rows[:10], ("others", f"{many:,}", f"{len(rest)} rarer reasons, all in diagnosis.json")]
    return Table("Crystals without an embedding", ("stage", "crystals", "reason"), rows)


# -- figures -------------------------------------------------------------------------------------


def _figures(folder: Path, result: Mapping[str, Any]) -> dict[str, Figure | None]:
    """Each figure, None where there is nothing to draw."""
    spread = result["spread"]
    figures = {
        "spectrum": spectrum_figure(spread),
        "distances": distance_figure(result["agreement"], spread["typical_distance"]),
    }
    for name, draw in (("crystals", crystal_figure), ("atoms", atom_figure)):
        there = result["maps"][name] is None
        figures[name] = draw(pq.read_table(folder / MAPS[name]).to_pandas()) if there else None
    return figures
