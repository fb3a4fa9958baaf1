"""What the probabilities of :mod:`crysjepa.evaluation.probability` are fitted and tested on.

WBM's crystals have DFT energies, and neither judge has learnt from them. Judges' energies of them are in
``wbm_judges.parquet``. A row is a crystal against a hull: the whole bundled one, or one without a random
third of its chemical systems; its label is the DFT energy above the whole hull in any case. So a poorer
hull's rows tell what a missing competitor does. Only crystals that the whole hull supports have rows, for
where it has gaps itself its labels are no truth. WBM's energies are brought to the hull's correction scheme
first (:mod:`ranking.scales`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from held_out_hull import without_some
from numpy.typing import NDArray
from ranking.scales import scheme_shift

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.validity import reduced_formulas
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.energy.limits import within
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.energy.support import HullSupport, Support, systems_of
from crysjepa.evaluation.judge_names import above_hull_column, energy_column
from crysjepa.evaluation.judges import How, judge_by_all
from crysjepa.evaluation.probability import LIMITS, LogisticModel, ProbabilityModel
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known
from crysjepa.relaxation.relax import QUICK, relax_crystals
from crysjepa.runtime.files import write_parquet

Floats = NDArray[np.float64]

JUDGES = ("chgnet", "sevennet-l3i5")
SETS: tuple[tuple[str, ...], ...] = (("chgnet",), ("sevennet-l3i5",), JUDGES)
"""Judges that there is a model for, alone and together."""
LABELS = Path(__file__).with_name("wbm_judges.parquet")
WBM = "wbm_dev.parquet"
SEED = 0
POORER = "third-"
FEWEST = 50
"""Rows that a regression needs."""
THIRDS = 4
"""Hulls without a third of their systems."""
FOLDS = 5
BINS = 10
"""Of a reliability diagram."""
RELAXED = 300
"""Crystals that are also judged as CHGNet relaxes them."""
_BATCH = 250


def sample(table: CandidateTable, num: int) -> list[str]:
    """Ids of some ``num`` crystals: whole chemical systems in a random order that ``num`` does not change."""
    crystals = table.crystals(table.ok_ids)
    by_system: dict[str, list[str]] = {}
    for id_, system in zip(crystals.ids, crystals.chemical_systems(), strict=True):
        by_system.setdefault(system, []).append(id_)
    systems = sorted(by_system)
    found: list[str] = []
    for place in np.random.default_rng(SEED).permutation(len(systems)).tolist():
        if len(found) >= num:
            break
        found += sorted(by_system[systems[place]])
    return found


def label(data: Path, num: int, work: Path, processes: int | None) -> None:
    """Write :data:`LABELS`: judges' energies of ``num`` crystals as DFT left them (``geometry`` is ``dft``),
    and of the first 300 as CHGNet relaxes them (``chgnet``). Finished work is kept in ``work``.
    """
    table = datasets.load(str(data / WBM))
    ids = sample(table, num)
    parts = [static_energies(table, ids, work, processes)]
    first = _ordered(table, ids[:RELAXED])
    relaxed = relax_crystals(
        first.crystals(), force_field="chgnet", settings=QUICK, processes=processes, shards=work / "relaxed"
    )
    parts.append(_judged(relaxed.apply_to(first), "chgnet", work / "of_relaxed", processes))
    write_rows(pd.concat(parts, ignore_index=True), LABELS)


def static_energies(
    table: CandidateTable, ids: Sequence[str], work: Path, processes: int | None
) -> pd.DataFrame:
    """Judges' energies of these crystals as they are, a row each; what is done is kept in ``work``."""
    batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
    return pd.concat(
        [_judged(_ordered(table, batch), "dft", work, processes) for batch in batches], ignore_index=True
    )


def write_rows(frame: pd.DataFrame, path: Path) -> None:
    """All or nothing."""
    write_parquet(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), path)


def _ordered(table: CandidateTable, ids: Sequence[str]) -> CandidateTable:
    return CandidateTable(table.frame.set_index("id", drop=False).loc[list(ids)].reset_index(drop=True))


def _judged(table: CandidateTable, geometry: str, work: Path, processes: int | None) -> pd.DataFrame:
    """Total energies and formation energies on the hull's scale, eV/atom; null where a judge has none."""
    hull = known_hull()
    how, known = How(processes=processes, shards=work), Known.load(NAME)
    done = judge_by_all(table, JUDGES, hull=hull, known=known, protocol=Protocol(), how=how).table
    heights = dict(zip(table.ids, heights_of(hull, table)[0].tolist(), strict=True))
    found: dict[str, object] = {"id": table.ids, "geometry": geometry}
    for judge in JUDGES:
        found[energy_column(judge)] = _floats(done, energy_column(judge)).round(6)
        above = _floats(done, above_hull_column(judge))
        formation = above + np.array([heights[i] for i in table.ids])
        found[f"formation_{energy_column(judge)}"] = formation.round(6)
    return pd.DataFrame(found)


def heights_of(hull: Hull, table: CandidateTable) -> tuple[Floats, NDArray[np.int64]]:
    """Heights of the hull (eV/atom) and its entries at the crystals of a table in which all have
    structures."""
    return LowerHull(hull).heights(element_fractions(table.crystals(table.ids)))


def _floats(table: CandidateTable, column: str) -> Floats:
    return np.array([np.nan if v is None else v for v in table.column(column)], dtype=float)


def rows_of_wbm(data: Path, *, geometry: str = "dft", thirds: int = THIRDS) -> pd.DataFrame:
    """Rows of the crystals in :data:`LABELS`, against the whole hull and ``thirds`` poorer ones.

    Columns: ``id``, ``hull`` (``whole``, ``third-0``, ...), ``chemical_system``, ``e_above_hull_NAME`` of
    each judge, ``hull_support``, ``hull_entries``, ``label`` (all energies in eV/atom), ``published``, WBM's
    own label against MP-20's hull, ``on_scale``, the same on the hull's correction scheme, and
    ``supported``: by the whole hull.
    """
    labels = pd.read_parquet(LABELS)
    labels = labels[labels["geometry"] == geometry].set_index("id")
    table = _ordered(datasets.load(str(data / WBM)), list(labels.index))
    crystals = table.crystals(table.ids)
    systems = systems_of(reduced_formulas(crystals))
    shift, published = scheme_shift(crystals), _floats(table, "e_above_hull")
    formation = _floats(table, "formation_energy_per_atom") + shift
    whole = known_hull()
    truth = formation - heights_of(whole, table)[0]
    parts = []
    for name, hull in [("whole", whole), *((f"{POORER}{s}", without_some(whole, s)) for s in range(thirds))]:
        heights, entries = heights_of(hull, table)
        support = HullSupport(hull)
        part: dict[str, Any] = {"id": table.ids, "hull": name, "chemical_system": crystals.chemical_systems()}
        for judge in JUDGES:
            energies = labels[f"formation_{energy_column(judge)}"].to_numpy(dtype=float)
            part[above_hull_column(judge)] = energies - heights
        part |= {"hull_support": [str(support.of(s).verdict) for s in systems], "hull_entries": entries}
        part |= {"label": truth, "published": published, "on_scale": published + shift}
        parts.append(pd.DataFrame(part))
    supported = parts[0]["hull_support"].eq(Support.SUPPORTED).tolist()
    return pd.concat(parts, ignore_index=True).assign(supported=supported * len(parts))


def with_more(rows: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """The rows, and those of Parquet files with ``e_above_hull_NAME`` of judges, ``hull_support``,
    ``hull_entries``, ``chemical_system`` and ``label``. Their ``hull`` is the file's name.
    """
    others = [pd.read_parquet(path).assign(hull=path.stem, supported=True) for path in files]
    return pd.concat([rows, *others], ignore_index=True)


def to_fit_on(rows: pd.DataFrame) -> pd.DataFrame:
    """Those with a trustworthy label."""
    return rows[rows["supported"].to_numpy(dtype=bool) & rows["label"].notna().to_numpy()]


def fit(rows: pd.DataFrame, card: dict[str, object] | None = None) -> ProbabilityModel:
    """A regression for each target, set of judges, and verdict of support or none, where there are rows."""
    models = []
    for judges in SETS:
        there = rows[[above_hull_column(j) for j in judges]].notna().all(axis=1)
        for verdict in (*map(str, Support), None):
            part = rows[there & ((rows["hull_support"] == verdict) if verdict else True)]
            for target in LIMITS if len(part) >= FEWEST else ():
                models.append(LogisticModel.fit(target, judges, verdict, *_arrays(part, judges)))
    return ProbabilityModel(tuple(models), card or {})


def _arrays(rows: pd.DataFrame, judges: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    above = rows[[above_hull_column(j) for j in judges]].to_numpy(dtype=float)
    return above, rows["hull_entries"].to_numpy(dtype=float), rows["label"].to_numpy(dtype=float)


def predict(model: ProbabilityModel, rows: pd.DataFrame, judges: tuple[str, ...], target: str) -> Floats:
    """Chances (B,) by these judges."""
    above, entries, _ = _arrays(rows, judges)
    found = np.full(len(rows), np.nan)
    verdicts = rows["hull_support"]
    for verdict in (*map(str, Support), None):
        chosen = (verdicts.isna() if verdict is None else verdicts == verdict).to_numpy(dtype=bool)
        if one := model.get(target, judges, verdict) or model.get(target, judges, None):
            found[chosen] = one.probability(above[chosen], entries[chosen])
    return found


def folds(rows: pd.DataFrame) -> NDArray[np.int64]:
    """(B,) fold of each row, the same for a chemical system in every row."""
    systems = sorted(rows["chemical_system"].unique())
    numbers = np.random.default_rng(SEED).permutation(len(systems)) % FOLDS
    return (
        rows["chemical_system"]
        .map(dict(zip(systems, numbers.tolist(), strict=True)))
        .to_numpy(dtype=np.int64)
    )


def held_out(rows: pd.DataFrame) -> Iterator[tuple[ProbabilityModel, NDArray[np.bool_]]]:
    """For each fold a model fitted on the other chemical systems, and which of ``rows`` are of the fold."""
    fold = folds(rows)
    for number in range(FOLDS):
        yield fit(to_fit_on(rows[fold != number])), fold == number


def name_of(judges: tuple[str, ...]) -> str:
    """For tables."""
    return " + ".join(judges)


def asked(rows: pd.DataFrame, relaxed: pd.DataFrame | None = None) -> None:
    """Columns ``TARGET by JUDGES`` of ``rows``, and of ``relaxed``, by models fitted on other systems."""
    for model, out in held_out(rows):
        systems = set(rows["chemical_system"][out])
        for frame in (rows, relaxed):
            if frame is None:
                continue
            part = frame["chemical_system"].isin(systems).to_numpy()
            for judges in SETS:
                for target in LIMITS:
                    column = f"{target} by {name_of(judges)}"
                    frame.loc[part, column] = predict(model, frame[part], judges, target)


def reliability(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """For each target and set of judges, :data:`BINS` bins of as many rows each, by the chance that a model
    fitted on other chemical systems gives: ``num`` rows, their ``mean_chance``, and how many are ``within``
    the limit by DFT. ``rows`` have the columns of :func:`asked`.
    """
    labels, found = rows["label"].to_numpy(dtype=float), []
    for target, limit in LIMITS.items():
        for judges in SETS:
            chances = rows[f"{target} by {name_of(judges)}"].to_numpy(dtype=float)
            there = np.flatnonzero(np.isfinite(chances))
            order = there[np.argsort(chances[there], kind="stable")]
            bins = [
                {
                    "num": len(part),
                    "mean_chance": round(float(chances[part].mean()), 4),
                    "within": int(within(labels[part], limit).sum()),
                }
                for part in np.array_split(order, BINS)
                if len(part)
            ]
            found.append({"target": target, "judges": list(judges), "bins": bins})
    return found
