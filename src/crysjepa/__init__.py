"""crysjepa: find new inorganic crystals that are stable and novel.

>>> import crysjepa as cj
>>> table = cj.read("generated/")  # doctest: +SKIP
>>> table = cj.rank(table, by="jepa-hull")  # doctest: +SKIP
>>> table = cj.relax(table, force_field="chgnet")  # doctest: +SKIP
>>> result = cj.evaluate(table)  # doctest: +SKIP
>>> result.metrics["vsun"], result.table  # doctest: +SKIP

Each is the command's verb of the same name, on tables in memory (``rank`` is
``screen``); :mod:`crysjepa.api` has the verbs on files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crysjepa.core.candidates import CandidateTable
    from crysjepa.core.crystals import Crystals
    from crysjepa.workflows.in_memory import (
        compete,
        evaluate,
        generate,
        predict,
        rank,
        read,
        relax,
    )
    from crysjepa.workflows.judged import Evaluation
    from crysjepa.workflows.measure import measure

__version__ = "0.2.0"
__all__ = [
    "CandidateTable", "Crystals", "Evaluation", "compete", "evaluate", "generate", "measure", "predict",
    "rank", "read", "relax",
]  # fmt: skip

_HOMES = {
    "CandidateTable": "crysjepa.core.candidates",
    "Crystals": "crysjepa.core.crystals",
    "Evaluation": "crysjepa.workflows.judged",
    "measure": "crysjepa.workflows.measure",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'crysjepa' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "crysjepa.workflows.in_memory")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
