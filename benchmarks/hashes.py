"""How often do hashes and distances disagree with StructureMatcher, and with themselves?

    python benchmarks/hashes.py CRYSTALS.parquet --out FOLDER

Every pair of crystals of one formula is compared: within CRYSTALS (duplicates), and with the bundled known
crystals. StructureMatcher's verdict is set against that of each hash, and of distances of PDDs up to a
tolerance. Then the first crystals are described anew: sites in another order, a supercell, atoms moved. A
hash of the crystal, and not of its description, stays. Prints Markdown. Hashes are kept in FOLDER, so that a
call that was stopped goes on. 2,000 crystals take a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from progress import say

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas, structure_validity
from crysjepa.data.bundle import NAME
from crysjepa.datasets import load
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.io import read_crystals
from crysjepa.matching.bonded_graph import bawl, bawl_candidates
from crysjepa.matching.pdd import Pdd, distance, pdds
from crysjepa.matching.reduction import Reduced
from crysjepa.matching.structure_hash import BONDED_GRAPH, ORBITS, crystal_hashes
from crysjepa.matching.structure_matcher import FormulaIndex, expected_warnings, natural_key
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

Pair = tuple[str, str]
Verdicts = dict[Pair, bool]
"""Whether the two are the same; a pair that cannot be compared is absent."""

TOLERANCES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Å."""
PIECE = 100
SECONDS = 60.0
MOVED = (0.01, 0.05)
"""Å; standard deviation of each coordinate."""


def pairs_of_one_formula(crystals: Crystals, known: Crystals) -> tuple[list[Pair], list[Pair]]:
    """Pairs within the crystals, and pairs of a crystal and a known one."""
    own, others = by_formula(crystals), by_formula(known)
    within = [pair for ids in own.values() for pair in combinations(ids, 2)]
    across = [(a, b) for formula, ids in own.items() for a in ids for b in others.get(formula, [])]
    return within, across


def by_formula(crystals: Crystals) -> dict[object, list[str]]:
    """Ids of each reduced formula, in their natural order."""
    found: dict[object, list[str]] = defaultdict(list)
    for formula, id_ in sorted(
        zip(reduced_formulas(crystals), crystals.ids, strict=True), key=lambda e: natural_key(e[1])
    ):
        found[formula].append(id_)
    return found


def by_matcher(pairs: list[Pair], crystals: Crystals) -> Verdicts:
    """StructureMatcher's, with its default tolerances."""
    index = FormulaIndex(crystals)
    rows = {id_: row for row, id_ in enumerate(crystals.ids)}
    found: Verdicts = {}
    with expected_warnings():
        for one, other in pairs:
            reduced = index.reduced(rows[one])
            if not isinstance(reduced, Reduced):
                continue
            match, failure = index.first_match(reduced, [rows[other]])
            if failure is None:
                found[one, other] = match is not None
    return found


def by_hash(pairs: list[Pair], hashes: Mapping[str, str]) -> Verdicts:
    """Whether both have the same."""
    return {(a, b): hashes[a] == hashes[b] for a, b in pairs if a in hashes and b in hashes}


def by_distance(pairs: list[Pair], found: Mapping[str, Pdd]) -> dict[Pair, float]:
    """Å between each two."""
    return {(a, b): distance(found[a], found[b]) for a, b in pairs if a in found and b in found}


def kept_hashes(crystals: Crystals, kind: str, folder: Path) -> dict[str, str]:
    """Hashes of a kind, those of each piece kept on disk; a crystal that has none is said, and left out."""
    hashes: dict[str, str] = {}
    failures: dict[str, str] = {}
    for start in range(0, len(crystals), PIECE):
        piece = crystals[start : start + PIECE]
        file = folder / f"{kind}-{piece.content_hash()[:24]}.json"
        if not file.exists():
            write_json(file, crystal_hashes(piece, kind=kind))
            say(f"{kind}: {start + len(piece)} of {len(crystals)}")
        found, failed = read_json(file)
        hashes |= found
        failures |= failed
    for id_, reason in list(failures.items())[:5]:
        say(f"{kind}: none for {id_}: {reason}")
    return hashes


def line(name: str, verdicts: Verdicts, truth: Verdicts, total: int) -> str:
    """One row: pairs said to be the same; of the matcher's pairs the share found; of its own those right."""
    both = [pair for pair in truth if pair in verdicts]
    same = [pair for pair in both if truth[pair]]
    said = [pair for pair in both if verdicts[pair]]
    right = sum(truth[pair] for pair in said)
    cells = [name, f"{len(said)}", share(right, len(same)), share(right, len(said)), f"{total - len(both)}"]
    return f"| {' | '.join(cells)} |"


def share(hits: int, num: int) -> str:
    """A share with its 95 % interval by Wilson."""
    if not num:
        return "–"
    low, high = wilson_interval(hits, num)
    return f"{hits / num:.3f} [{low:.3f}, {high:.3f}] of {num}"


def table(title: str, pairs: list[Pair], crystals: Crystals, folder: Path) -> str:
    """Verdicts on pairs of one formula beside StructureMatcher's."""
    ids = set(np.unique([id_ for pair in pairs for id_ in pair]).tolist())
    some = crystals.select([id_ for id_ in crystals.ids if id_ in ids])
    truth = by_matcher(pairs, some)
    lines = [
        f"**{title}**: {len(pairs)} pairs of one formula, of which StructureMatcher calls "
        f"{sum(truth.values())} the same.",
        "",
        "| by | the same | of StructureMatcher's, found | of its own, StructureMatcher's | not compared |",
        "|---|---|---|---|---|",
    ]
    for kind in (ORBITS, BONDED_GRAPH):
        lines.append(line(f"`{kind}`", by_hash(pairs, kept_hashes(some, kind, folder)), truth, len(pairs)))
    bare = {i: "|".join(h.split("|")[::2]) for i, h in kept_hashes(some, BONDED_GRAPH, folder).items()}
    lines.append(line(f"`{BONDED_GRAPH}` without space group", by_hash(pairs, bare), truth, len(pairs)))
    distances = by_distance(pairs, pdds(some)[0])
    for most in TOLERANCES:
        near = {pair: d <= most for pair, d in distances.items()}
        lines.append(line(f"`pdd`, {most:g} Å", near, truth, len(pairs)))
    return "\n".join(lines)


def described_anew(crystal: Crystals, rng: np.random.Generator) -> dict[str, Crystals]:
    """The same crystal with its sites in another order and in a supercell; and with its atoms moved."""
    structure = crystal.to_structures()[0]
    order = rng.permutation(len(structure))
    found = {"sites in another order": type(structure).from_sites([structure[int(i)] for i in order])}
    found["2 × 1 × 1 supercell"] = structure.make_supercell([2, 1, 1], in_place=False)
    anew = {name: Crystals.from_structures([s], crystal.ids) for name, s in found.items()}
    for moved in MOVED:
        shift = rng.normal(scale=moved, size=crystal.frac_coords.shape) @ np.linalg.inv(crystal.lattices[0])
        coords = crystal.frac_coords + shift
        anew[f"atoms moved by {moved:g} Å"] = Crystals(
            crystal.atomic_numbers, coords, crystal.lattices, crystal.num_atoms, crystal.ids
        )
    return anew


HASHES: dict[str, Callable[[Crystals], set[str]]] = {
    ORBITS: lambda c: set(crystal_hashes(c, kind=ORBITS)[0].values()),
    BONDED_GRAPH: lambda c: set(crystal_hashes(c, kind=BONDED_GRAPH)[0].values()),
    "BAWL as published": lambda c: {bawl(c)},
    "BAWL of the primitive cell, any order of elements": lambda c: set(bawl_candidates(c)),
}


def steadiness(crystals: Crystals, folder: Path) -> str:
    """Of how many crystals a hash stays when they are described anew."""
    stays: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for number, crystal in enumerate(crystals):
        file = folder / f"anew-{crystal.content_hash()[:24]}.json"
        if not file.exists():
            write_json(file, _stays(crystal, np.random.default_rng(number)))
        for name, found in read_json(file).items():
            for how, same in found.items():
                stays[name][how].append(same)
        if (number + 1) % PIECE == 0:
            say(f"described anew: {number + 1} of {len(crystals)}")
    hows = list(dict.fromkeys(how for found in stays.values() for how in found))
    lines = [
        f"**The same crystal, described anew**: of {len(crystals)} crystals, those whose hash stays.",
        "",
        f"| hash | {' | '.join(hows)} |",
        f"|---|{'---|' * len(hows)}",
    ]
    for name, found in stays.items():
        lines.append(f"| {name} | {' | '.join(share(sum(found[h]), len(found[h])) for h in hows)} |")
    return "\n".join(lines)


def _stays(crystal: Crystals, rng: np.random.Generator) -> dict[str, dict[str, bool]]:
    anew = described_anew(crystal, rng)
    found: dict[str, dict[str, bool]] = {}
    for name, of in HASHES.items():
        before = _hashed(of, crystal)
        found[name] = {how: bool(before & _hashed(of, other)) for how, other in anew.items()}
    return found


def _hashed(of: Callable[[Crystals], set[str]], crystal: Crystals) -> set[str]:
    """Nothing for a crystal that has no hash, which then counts as one that changed."""
    try:
        with time_limit(SECONDS, of_cpu=True):
            return of(crystal)
    except (ValueError, TimeLimitExceeded):
        return set()


def main() -> None:
    """Parse the command line, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("crystals", type=Path)
    parser.add_argument("--out", type=Path, default=Path("hashes"))
    parser.add_argument("--known", type=int, help="so many pairs with known crystals, drawn at random")
    parser.add_argument("--num", type=int, help="the first crystals only")
    parser.add_argument("--anew", type=int, default=200, help="described anew; default: %(default)s")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    crystals = read_crystals(args.crystals).crystals()[: args.num]
    wrong = structure_validity(crystals)
    crystals = crystals.select([id_ for id_ in crystals.ids if wrong[id_] is None])
    known = load(NAME).crystals()
    known = known.with_ids([f"known {id_}" for id_ in known.ids])
    within, across = pairs_of_one_formula(crystals, known)
    if args.known is not None and args.known < len(across):
        drawn = np.random.default_rng(0).choice(len(across), args.known, replace=False)
        across = [across[i] for i in sorted(drawn.tolist())]
    met = sorted({b for _, b in across}, key=natural_key)
    own = {a for a, _ in across}
    both = Crystals.concatenate([crystals.select([i for i in crystals.ids if i in own]), known.select(met)])
    say(f"{len(crystals)} valid crystals, {len(within)} and {len(across)} pairs of one formula")
    print(table("Within the set", within, crystals, args.out), flush=True)
    print()
    print(table("With the bundled known crystals", across, both, args.out), flush=True)
    print()
    print(steadiness(crystals[: args.anew], args.out))


if __name__ == "__main__":
    main()
