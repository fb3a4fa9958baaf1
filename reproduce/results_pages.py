"""The pages of results: which section stands on which, what it answers, and what to mind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

INDEX = "results.md"


class Page(NamedTuple):
    """A file of ``docs/``: the question it answers, the answer, a caveat, and its sections in order."""

    file: str
    question: str
    answer: str
    caveat: str
    sections: tuple[str, ...]


PAGES = (
    Page(
        "results_dft.md", "Does DFT agree with the short list?",
        "Yes for nine of ten crystals of a short list, and for six of ten drawn at random from the same source.",
        "Small crystals of fifteen elements without open d or f shells, and nearly all of the short list are "
        "intermetallics. On the hull itself are fewer of the list than of the control. What took too "
        "long counts as no.",
        ("DFT has the last word",),
    ),
    Page(
        "results_dft_crystals.md", "What does DFT say of each crystal?",
        "Most errors of CHGNet are of one sign: it puts crystals too low. SevenNet is closer.",
        "Energies are above a hull of calculated phases alone. A phase that nobody knows is in none.",
        ("Crystal by crystal",),
    ),
    Page(
        "results_quick_run.md", "What does the quick run find?",
        "A short list that a second judge confirms. The same generator without the ranker has half the rate.",
        "CHGNet judges, and it also labelled most of what the ranker learnt from. The second judge had no part in "
        "the choice.",
        ("The quick run",),
    ),
    Page(
        "results_closed_hull.md", "Does the search for competing phases find what is there?",
        "Of compounds that were hidden it finds three quarters, with more than twice the competitors five sixths, and the hull comes out nearly right.",
        "Both force fields have seen the hidden compounds in their training. The prototypes have not.",
        ("Hide and seek", "Hide and seek by budget"),
    ),
    Page(
        "results_probability.md", "How likely is DFT to agree?",
        "The chances are calibrated where the hull is supported, and better with SevenNet than with CHGNet alone.",
        "Truth is WBM's DFT above the bundled hull. Another hull would give other shares.",
        ("How likely DFT is to agree",),
    ),
    Page(
        "results_yardstick.md", "What does the yardstick change?",
        "A sparse hull flatters. The same crystals have lower rates by a fuller one, and many are known compounds.",
        "The fuller hull ends with its sources, too. What has been found since is not in it.",
        ("Before and after", "Sources side by side", "A third of the hull held out"),
    ),
    Page(
        "results_generators.md", "How do other generators do by the same yardstick?",
        "Of the sets that were published as drawn DiffCSP's has the most V.S.U.N. crystals; most intervals overlap.",
        "Some sets were relaxed or selected before they were published. Compare rows with that in mind.",
        ("Published samples", "Nearer and farther crystals"),
    ),
    Page(
        "results_screening.md", "How good and how fast is the ranking?",
        "It orders hypothetical crystals better than CHGNet's own energies, at a fraction of the cost.",
        "One data set, WBM, whose labels mix two correction schemes unless they are put on one scale.",
        ("Screening by the embedding", "A million candidates"),
    ),
    Page(
        "results_hits.md", "What does screening gain in an hour?",
        "Finding and confirming, three times what CHGNet's own loop gives. In finding alone the gain is all of faster "
        "relaxation (10 times) and none of screening; screening nearly doubles what is confirmed in an hour.",
        "40 crystals a way, one draw of each. CHGNet also labelled most of what the ranker learnt from; SevenNet did not. "
        "Light work ran beside some ways.",
        ("Hits an hour",),
    ),
    Page(
        "results_force_fields.md", "How good are the energies, and how fast is relaxation?",
        "Relaxation ends where a plain loop of ASE ends, several times sooner. SevenNet errs half as much as CHGNet.",
        "Near-equilibrium crystals of the Materials Project, which both force fields have seen in training.",
        ("Relaxation", "Energies"),
    ),
    Page(
        "results_evaluating.md", "How fast is evaluation?",
        "Many times faster than a plain loop of pymatgen, with the same verdicts.",
        "Seconds of one machine. Only the ratios carry over.",
        ("Evaluating",),
    ),
    Page(
        "results_speed.md", "How fast is it, and how much faster could it be?",
        "Relaxation is 7 times as fast as ASE in as many processes, ranking 57 times as fast as CHGNet. `evaluate` as a command is a "
        "fifth faster than a bare script.",
        "Rates are of one machine with two cores, where other work ran beside some rows. Only the ratios carry over. "
        "The bare script does two of the command's dozen judgements, and writes no page.",
        ("Timings",),
    ),
    Page(
        "results_dft_without_vasp.md", "What does DFT without VASP take?",
        "Minutes for small crystals on two cores.",
        "The preset `quick` is coarse. [dft.md](dft.md) says what finer ones cost.",
        ("DFT without VASP",),
    ),
    Page(
        "results_training.md", "How did the training end?",
        "The losses still fall slowly at the end of each training.",
        "Losses of different models cannot be compared.",
        ("Ends of the training curves",),
    ),
)  # fmt: skip

HEAD = """# Results

Each page answers one question: the answer, at most three tables, the command that made them, and what to mind. The tables
are written by `reproduce/write_results.py` from saved runs; answer and what to mind are ours.

**The protocol, once.** A crystal is relaxed by CHGNet 0.3.0, by the preset `default` (0.1 eV/Å, at most 150 steps), and stands as many eV/atom above the hull as its energy says.
Stable is at most 0.1 eV/atom above it. Hull and known crystals are the bundled data set
[`known`](../src/crysjepa/data/known.md): 40,784 compounds and 27,708 crystals. Every rate is a share of all crystals, with
a Wilson interval of 95 % in brackets; what fails counts against it. Where a page departs from that, it says so.
[evaluate.md](evaluate.md) explains every word. What was measured by a poorer hull and a smaller novelty set, and not again
since, is in [earlier.md](earlier.md)."""


def sections_in(docs: Path) -> dict[str, str]:
    """What the pages that were written earlier say, by heading."""
    found: dict[str, str] = {}
    for page in PAGES:
        path = docs / page.file
        if path.exists():
            for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
                if (name := part.splitlines()[0]) in page.sections:  # another has left the page
                    found[name] = f"## {part.rstrip()}"
    return found


def write_pages(docs: Path, sections: dict[str, str], headlines: list[str]) -> None:
    """Every page with a section, and the index with the headlines. Raises KeyError for a section without a page."""
    homes = {name for page in PAGES for name in page.sections}
    if astray := set(sections) - homes:
        raise KeyError(f"no page of PAGES has the sections {', '.join(sorted(astray))}")
    rows = ["| question | in short |", "|---|---|"]
    for page in PAGES:
        own = [sections[name] for name in page.sections if name in sections]
        if not own:
            continue
        parts = [f"# {page.question}", f"**In short.** {page.answer}", f"**Mind.** {page.caveat}", *own]
        (docs / page.file).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        rows.append(f"| [{page.question}]({page.file}) | {page.answer} |")
    index = [HEAD, "## Headlines", *headlines, "## Page by page", "\n".join(rows)]
    (docs / INDEX).write_text("\n\n".join(index) + "\n", encoding="utf-8")


def link(section: str) -> str:
    """Where a section stands, below the README: ``docs/page.md#anchor``."""
    page = next(p for p in PAGES if section in p.sections)
    return f"docs/{page.file}#{section.lower().replace(' ', '-')}"
