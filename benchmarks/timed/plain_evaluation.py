"""What a user writes without crysjepa: which of these crystals are duplicates, which are known.

    python benchmarks/timed/plain_evaluation.py FILE.parquet

Known are those of the data set ``known``; of it only crystals of a formula that occurs in FILE are made into
structures, which is more than a plain script would think of.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crysjepa import datasets


def main(path: str) -> None:
    """Count, one pair after another."""
    warnings.simplefilter("ignore")
    crystals, known = datasets.load(path).crystals(), datasets.load("known").crystals()
    groups: dict[str, list[Structure]] = defaultdict(list)
    for structure in crystals.to_structures():
        groups[structure.composition.reduced_formula].append(structure)
    wanted = [i for i, formula in enumerate(known.reduced_formulas()) if formula in groups]
    reference: dict[str, list[Structure]] = defaultdict(list)
    for structure in known[wanted].to_structures():
        reference[structure.composition.reduced_formula].append(structure)
    matcher, unique, novel = StructureMatcher(), 0, 0
    for formula, group in groups.items():
        kept: list[Structure] = []
        for structure in group:
            if not any(matcher.fit(structure, other) for other in kept):
                kept.append(structure)
        unique += len(kept)
        novel += sum(not any(matcher.fit(s, other) for other in reference[formula]) for s in group)
    print(f"{unique} unique, {novel} novel of {len(crystals)}")


if __name__ == "__main__":
    main(sys.argv[1])
