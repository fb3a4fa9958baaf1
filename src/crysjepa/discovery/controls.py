"""What a round is compared with: crystals drawn at random, and a generator that learnt at random."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.means import Means
from crysjepa.generators.base import Generator
from crysjepa.ranking.selection import vun_ids
from crysjepa.stages.choosing import at_random
from crysjepa.stages.evaluate import Evaluate
from crysjepa.stages.finetune import Finetune
from crysjepa.stages.generate import Generate
from crysjepa.stages.keep import Keep
from crysjepa.stages.measure import Measure
from crysjepa.stages.relax import Relax
from crysjepa.stages.stage import Runner

OTHER = "learnt-at-random"
"""Folder, in that of a round, of the generator that learnt at random."""


def drawn_at_random(at: Runner, means: Means, generated: CandidateTable, round_: int) -> CandidateTable:
    """Some of what was drawn, at random, evaluated alike: ``control.parquet``."""
    config = means.config
    pick = partial(at_random, num=config.control, seed=(config.seed, 3, round_))
    sample = at(Keep(output="control-sample.parquet", pick=pick), generated)
    return _evaluated(at.within(at.folder, f"{at.label}, at random"), means, sample)


def learnt_at_random(
    at: Runner, means: Means, finetune: Finetune, generate: Generate, before: CandidateTable, round_: int
) -> CandidateTable:
    """What a generator draws that learnt from as many V.U.N. crystals of the round before, at random.

    ``finetune`` and ``generate`` are the round's own; the generator goes on from the one that learnt at
    random in the round before. What it learns from was drawn, and chosen to be relaxed, by the run itself:
    that makes it a strong control, from the second refinement on too strong.
    """
    config, folder = means.config, f"{at.folder}/{OTHER}"
    own = at.within(folder, f"{at.label}, learnt at random")
    num = len(finetune.select(before))
    chosen = at_random_vun(before, num, seed=(config.seed, 5, round_))
    other = Finetune(
        generator=lambda: _generator(means, round_ - 1), select=lambda _: chosen, settings=finetune.settings,
        beside=finetune.beside, seed=finetune.seed, device=means.device, file=finetune.file,
    )  # fmt: skip
    own(other, before)
    again = replace(
        generate, source=lambda: _generator(means, round_), num=config.control,
        prefix=f"{generate.prefix}-at-random",
    )  # fmt: skip
    drawn = own(again)
    return _evaluated(own, means, drawn)


def at_random_vun(judged: CandidateTable, num: int, seed: tuple[int, ...]) -> list[str]:
    """Ids of ``num`` V.U.N. crystals, at random."""
    ids = sorted(vun_ids(judged))
    rows = np.sort(np.random.default_rng(seed).permutation(len(ids))[:num])
    return [ids[row] for row in rows.tolist()]


def _generator(means: Means, round_: int) -> Generator:
    return means.generator(round_, OTHER)


def _evaluated(at: Runner, means: Means, sample: CandidateTable) -> CandidateTable:
    """``control.parquet``, judged and, where objectives are weighed, measured as the round's own are."""
    relaxed = at(
        Relax(output="control-relaxed.parquet", evaluator=means.evaluator, shards="control-relax"), sample
    )
    if means.aims is None:
        return at(Evaluate(output="control.parquet", evaluator=means.evaluator, with_metadata=True), relaxed)
    judged = at(Evaluate(output="control-evaluated.parquet", evaluator=means.evaluator), relaxed)
    about = means.evaluator.energies()
    return at(Measure(output="control.parquet", aims=means.aims, metadata=about), judged)
