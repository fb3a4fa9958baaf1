"""How results are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from crysjepa.core.candidates import CandidateTable
    from crysjepa.datasets import Dataset
    from crysjepa.nn.training import Training
    from crysjepa.report.embedding import Table as Part
    from crysjepa.workflows.generate import Generated
    from crysjepa.workflows.screen import Screened

from crysjepa.cli.console import errors, output, say, text


def columns(*names: str, pad_edge: bool = True) -> Table:
    """A table whose cells break between lines in a narrow window: no id and no number is ever cut."""
    table = Table(box=None, pad_edge=pad_edge)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def show_datasets(known: Iterable[Dataset]) -> None:
    """A paragraph for each data set, its name first: what must be typed is never cut or broken."""
    for dataset in known:
        rows = [f"{dataset.num_rows:,} rows"] if dataset.num_rows else []
        site = dataset.url.split("/")[2] if dataset.url else "bundled"
        say(f"{dataset.name}  ({', '.join([*rows, dataset.size])})", soft_wrap=True)
        description = f"{dataset.description}. Licence: {dataset.licence}. From: {site}; {dataset.checked}."
        output.print(Padding(text(description), (0, 0, 0, 4)))
    say("\ncrysjepa data info NAME tells more; data fetch NAME downloads")


def show_fetched(path: Path, metadata: Mapping[str, Any]) -> None:
    """Where a data set is, how many rows it has, and what became of those that are not crystals."""
    if "rows" in metadata:
        expected = metadata.get("expected_rows")
        differs = f" ({expected:,} expected)" if expected not in (None, metadata["rows"]) else ""
        say(f"{metadata['rows']:,} rows{differs}, {metadata['num_failed']:,} of them failed")
        for reason, number in [*metadata["left_out"].items(), *list(metadata["failed"].items())[:5]]:
            say(f"{number:>8,}  {reason}", soft_wrap=True)
        for element, number in metadata.get("no_elemental_entry", {}).items():
            say(f"{number:>8,}  no formation energy: no entry of {element} by itself", soft_wrap=True)
    say(str(path), soft_wrap=True)


def show_checks(checks: Iterable[tuple[str, bool, str]]) -> None:
    """A line for each check: what it is, whether it works, and what there is to say about it."""
    table = columns("", "what", "state")
    for name, works, detail in checks:
        table.add_row("[green]ok[/]" if works else "[yellow]--[/]", text(name), text(detail))
    output.print(table)


def show_hull(rows: pa.Table, out: Path) -> None:
    """How many competing phases a hull has, why others have no energy, and how to use it."""
    reasons = Counter(r for r in rows["reason"].to_pylist() if r is not None)
    loose = rows["converged"].to_pylist().count(False)
    say(
        f"{rows.num_rows - reasons.total()} of {rows.num_rows} crystals have an energy"
        + (f"; {loose} did not converge, and stand a little too high" if loose else "")
    )
    for reason, number in reasons.most_common(5):
        say(f"{number:>8}  {reason}", soft_wrap=True)
    say(f"wrote {out}: give it to crysjepa evaluate --hull, with the same force field")
    if rows.num_rows and reasons.total() == rows.num_rows:
        raise RuntimeError(f"not one of {rows.num_rows} crystals has an energy: the reasons are in {out}")


def show_relaxed(table: CandidateTable, out: Path, max_steps: int) -> None:
    """How many crystals came to each state, how many of them converged, and where they were written.

    Raises RuntimeError where the force field failed for all of them.
    """
    show_counts(table, out)
    if set(table.counts()) == {"failed: read"}:
        fail_without_any(table.counts(), out)
    if "converged" not in table:  # read again from a format that does not hold it
        return
    converged = table.column("converged", table.ok_ids)
    loose = sum(c is False for c in converged)
    if loose:
        steps = f"in {max_steps} steps (--max-steps)" if max_steps else "(--max-steps 0: no step was taken)"
        say(f"{loose} of these {len(converged)} did not converge {steps}; the column converged says which",
            soft_wrap=True)  # fmt: skip
    failed = Counter(
        str(reason)
        for stage, reason in zip(table.column("stage"), table.column("reason"), strict=True)
        if stage == "relax"
    )
    if failed and not converged:
        first = failed.most_common(1)[0][0]
        raise RuntimeError(f"not one of {failed.total()} crystals could be relaxed: {first}")
    fail_without_any(table.counts(), out)


def show_unconverged(rows: pa.Table) -> None:
    """How many of the crystals that passed had not converged; ``rows`` has ``status``, maybe ``converged``.

    A known crystal that is cut off on its way need not match the known one: that verdict is not final.
    """
    if "converged" not in rows.column_names:
        return
    states, ends = rows["status"].to_pylist(), rows["converged"].to_pylist()
    passed = [end for state, end in zip(states, ends, strict=True) if state == "ok"]
    if loose := passed.count(False):
        say(
            f"note: {loose} of the {len(passed)} that passed did not converge: relaxed on, they can come "
            "to another energy, or to a known crystal; the column converged says which, and --preset strict "
            "fails them",
            soft_wrap=True,
        )


def fail_without_any(counts: Mapping[str, int], out: str | Path) -> None:
    """Raises RuntimeError where every row failed, which is no success though all of it is written."""
    if counts and all(state.startswith("failed") for state in counts):
        where = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        raise RuntimeError(
            f"not one of {sum(counts.values())} crystals could be used ({where}); the column reason of {out} "
            "says why"
        )


def show_counts(table: CandidateTable | Screened | Generated, out: Path) -> None:
    """How many crystals came to each state, and where they were written."""
    for state, number in sorted(table.counts().items()):
        say(f"{number:>8}  {state}")
    say(f"wrote {out}")


def show_generated(done: Generated, out: Path) -> None:
    """What was asked for, how often was drawn and why again, what to beware of, and where it all is."""
    say(f"asked for: {done.draws.asked} crystals, {'; '.join(done.asked)}", soft_wrap=True)
    again = ", ".join(f"{n} × {reason}" for reason, n in sorted(done.draws.rejected.items()))
    say(f"drawn: {done.draws.drawn}" + (f", thrown away: {again}" if again else ""), soft_wrap=True)
    for note in done.draws.notes:
        say(f"note: {note}", soft_wrap=True)
    for warning in done.warnings:
        say(f"warning: {warning}", soft_wrap=True)
    show_counts(done, out)


def show_training(training: Training, out: Path) -> None:
    """Steps, seconds and last losses of a training, and where the model was written."""
    last = {k: round(v, 4) for k, v in training.curve[-1].items()} if training.curve else {}
    say(f"{training.step} steps in {training.seconds:.0f} s, {last}\nwrote {out}")


NOT_SHOWN = ("worth", "objective_reason")
"""Columns of objectives that are in the file alone."""


def _is_error(name: str, columns: Sequence[str]) -> bool:
    return name.endswith("_error") and name.removesuffix("_error") in columns


def show_ranking(done: Screened, by: str, *, most: int = 20) -> None:
    """The first ``most`` rows of the ranking ``by`` a ranker, and what it is relative to."""
    rows = done.head(most)
    values = [n for n in done.more if n not in NOT_SHOWN and not _is_error(n, done.more)]
    others = () if values else ("hull", "references")
    shown = columns("rank", "id", by, *(n.replace("_", " ") for n in values), *others, "status", "reason")
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        hull = () if values else (row["hull_support"] or "", row["num_references"])
        remarks = (row["reason"], row["hull_warning"], row.get("objective_reason"))
        cells = (row["rank"], row["id"], score, *(_short(row[n]) for n in values), *hull, row["status"])
        shown.add_row(*(text(cell) for cell in (*cells, "; ".join(t for t in remarks if t))))
    output.print(shown)
    doubtful = sum(row["hull_support"] == "blind" or row["hull_warning"] is not None for row in rows)
    if doubtful:
        say(
            f"note: of these {len(rows)}, {doubtful} are where the hull is blind or lie too far below it: a "
            "score there says what the hull lacks rather than what the crystal is worth",
            soft_wrap=True,
        )
    for note in done.notes:
        say(f"note: {note}", soft_wrap=True)
    states = ", ".join(f"{number} {state}" for state, number in sorted(done.counts().items()))
    say(f"wrote {done.num_rows} rows to {done.out} ({states})", soft_wrap=True)
    fail_without_any(done.counts(), done.out)


def _short(value: Any) -> str:
    """Four figures of a number, yes or no, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}"


def show_metrics(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each of the evaluated sets: its rates in percent, a dash where a rate is unknown."""
    from crysjepa.report.rate_names import RATE_LETTERS

    table = Table("% of all", box=None, pad_edge=False, collapse_padding=True)
    for name in ("n", *RATE_LETTERS.values()):  # words are not broken, however narrow the window
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for row in rows:
        cells = ["–" if row.get(n) is None else f"{100 * row[n]:.1f}" for n in RATE_LETTERS]
        table.add_row(text(row["name"]), str(row["num_crystals"]), *cells)
    output.print(table)


def with_controls(rounds: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rounds of a run, each control below the round that it belongs to."""
    rows: list[Mapping[str, Any]] = []
    for entry in rounds:
        rows.append(entry)
        if control := entry.get("control"):
            rows.append({**control, "name": f"{entry['name']}, at random"})
    return rows


def show_judged(name: str, metrics: Mapping[str, Any]) -> None:
    """Rates of one set of crystals and of its rounds, how its short list held up, relative to what."""
    rounds = metrics.get("by_round") or []
    show_metrics([{"name": name, **metrics}, *({"name": f"round {r['round']}", **r} for r in rounds)])
    if listed := metrics.get("shortlist"):
        order = "–" if listed["spearman"] is None else f"{listed['spearman']:.2f}"
        shares = (listed["stable"], listed["vsun_new_formula"], listed["control"]["vsun_new_formula"])
        stable, hits, of_all = ("–" if share is None else f"{100 * share:.0f} %" for share in shares)
        if listed["stable"] is None:
            verdict = "stability was not judged"
        else:
            verdict = (
                f"{stable} stable, {hits} V.S.U.N. with a new formula (of all: {of_all}); Spearman between "
                f"its energies above hull before and now: {order}"
            )
        say(f"of the short list of {listed['num']}: {verdict}", soft_wrap=True)
    say(metrics["citation"], soft_wrap=True)
    if found := metrics.get("genbench"):
        from crysjepa.report.genbench import genbench_tables

        _show_part(genbench_tables(found)[0])
    show_yardsticks(metrics.get("yardsticks"))


def show_yardsticks(rows: Sequence[Mapping[str, Any]] | None) -> None:
    """The table of several yardsticks, where they were asked for."""
    if rows:
        from crysjepa.report.yardsticks import yardstick_table

        _show_part(yardstick_table(rows))


def _show_part(part: Part) -> None:
    """A table of a page."""
    say(f"\n{part.title}")
    if part.note:
        errors.print(part.note, markup=False, highlight=False, style="dim")
    words = part.columns[-1] in ("why", "reason")
    shown = Table(box=None, pad_edge=False)
    for k, name in enumerate(part.columns):
        last = words and k == len(part.columns) - 1
        longest = max((len(row[k]) for row in part.rows), default=0) if k == 0 else 0
        shown.add_column(
            name, justify="left" if k == 0 or last else "right", overflow="fold", min_width=min(longest, 12)
        )
    for row in part.rows:
        shown.add_row(*(text(cell) for cell in row))
    output.print(shown)


def show_diagnosis(result: Mapping[str, Any], out: Path | None) -> None:
    """Tables of a diagnosis, what must not be overlooked, and where all of it was written."""
    from crysjepa.report.embedding import headline, tables

    for part in tables(result):
        _show_part(part)
    say(f"\n{headline(result)}", soft_wrap=True)
    for finding in result["findings"]:
        say(f"  - {finding['text']}", soft_wrap=True)
    if out is None:
        say("nothing was written: --out FOLDER gives the page, the figures and every number")
        return
    for name, reason in sorted(result["maps"].items()):
        if reason is not None:
            say(f"no map of the {name}: {reason}", soft_wrap=True)
    say(f"wrote {out / 'diagnosis.html'} and {out / 'diagnosis.json'}", soft_wrap=True)
