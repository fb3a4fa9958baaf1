"""Properties of a table in memory: what ``import crysjepa as cj`` gives as ``cj.measure``."""

from __future__ import annotations

from collections.abc import Sequence

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.validity import invalid_structures
from crysjepa.properties.aims import Aims
from crysjepa.properties.base import How
from crysjepa.properties.objective import Objective
from crysjepa.properties.registry import find_property
from crysjepa.runtime.bars import shown
from crysjepa.runtime.execution import Execution
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows.in_memory import Readable, read


def measure(
    source: Readable,
    properties: Sequence[str],
    *,
    force_field: str = "chgnet",
    device: str = "auto",
    processes: int | None = None,
    progress: StageProgress | None = None,
) -> CandidateTable:
    """The table with properties as columns, such as ``density`` or ``capacity:Li`` (``capacity_Li``).

    Names are those of :func:`crysjepa.properties.property_names`, or ``module:function`` of a table. Of rows
    that are ``ok`` and have a valid structure; ``objective_reason`` says why a value is missing. Raises
    PropertyError, a ValueError, for a name that nothing has.
    """
    run = Execution(device=device)
    table = read(source)
    with shown(progress) as report:
        how = How(force_field=force_field, device=run.found_device, processes=processes, progress=report)
        aims = Aims(tuple(Objective(find_property(name), "max") for name in properties), how)
        crystals = table.crystals(table.ok_ids)
        bad = invalid_structures(crystals)
        return aims.measure(table, [i for i in crystals.ids if i not in bad])
