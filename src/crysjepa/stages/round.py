"""A round of the loop (section 4.2): the generator learns, crystals are drawn, chosen and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crysjepa.core.candidates import CandidateTable
from crysjepa.stages.finetune import Finetune
from crysjepa.stages.stage import Runner, Stage


@dataclass(frozen=True, kw_only=True)
class Round:
    """The stages of a round, each of which goes on from the table of the one before.

    ``finetune`` makes the generator, if it is not there; ``generate`` draws; ``choose`` leaves what is worth
    judging, and ``judge`` relaxes and judges it.
    """

    finetune: Finetune | None = None
    generate: Stage
    choose: Sequence[Stage] = ()
    judge: Sequence[Stage] = ()


def one_round(at: Runner, round_: Round, judged: CandidateTable | None = None) -> CandidateTable:
    """The crystals of the round, judged. The generator learns from ``judged``, of the rounds before."""
    if round_.finetune is not None:
        at(round_.finetune, judged)
    table = at(round_.generate)
    for stage in (*round_.choose, *round_.judge):
        table = at(stage, table)
    return table
