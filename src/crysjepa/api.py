"""The verbs of the command line as plain functions: files in, files out.

>>> from crysjepa import api
>>> api.generate(1000, out="new.parquet", seed=1)                                        # doctest: +SKIP
>>> api.screen("new.parquet", reference="known", by="jepa-hull", out="ranked.parquet")  # doctest: +SKIP

A script that calls them needs no ``if __name__ == "__main__":``, though they start processes: these do not
import the script, unless its own functions or classes are sent to them.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crysjepa.dft.gpaw.run import dft_run
    from crysjepa.dft.vasp.collect import dft_collect
    from crysjepa.dft.vasp.export import dft_export
    from crysjepa.evaluation.given import energies_of
    from crysjepa.reproduction.run import reproduce
    from crysjepa.runtime.executors import executing_on
    from crysjepa.workflows.check import check
    from crysjepa.workflows.diagnose import diagnose
    from crysjepa.workflows.discover import discover, report
    from crysjepa.workflows.doctor import doctor
    from crysjepa.workflows.embed import embed
    from crysjepa.workflows.evaluate import compare, compete, evaluate, tradeoff
    from crysjepa.workflows.export import Exported, export_genbench, export_matbench_discovery
    from crysjepa.workflows.generate import Generated, generate
    from crysjepa.workflows.parts import PartRecord, merge, work_on_part
    from crysjepa.workflows.predict import predict
    from crysjepa.workflows.relax import hull, relax
    from crysjepa.workflows.screen import Screened, screen
    from crysjepa.workflows.train import FINETUNING, finetune, pretrain, train

__all__ = [
    "FINETUNING", "Exported", "Generated", "PartRecord", "Screened", "check", "compare", "compete",
    "dft_collect", "dft_export", "dft_run", "diagnose", "discover", "doctor", "embed", "energies_of",
    "evaluate", "executing_on", "export_genbench", "export_matbench_discovery", "finetune", "generate",
    "hull", "merge", "predict", "pretrain", "relax", "report", "reproduce", "screen", "tradeoff", "train",
    "work_on_part",
]  # fmt: skip

_HOMES = {
    "check": "crysjepa.workflows.check",
    "compare": "crysjepa.workflows.evaluate",
    "compete": "crysjepa.workflows.evaluate",
    "dft_collect": "crysjepa.dft.vasp.collect",
    "dft_export": "crysjepa.dft.vasp.export",
    "dft_run": "crysjepa.dft.gpaw.run",
    "diagnose": "crysjepa.workflows.diagnose",
    "discover": "crysjepa.workflows.discover",
    "doctor": "crysjepa.workflows.doctor",
    "embed": "crysjepa.workflows.embed",
    "energies_of": "crysjepa.evaluation.given",
    "evaluate": "crysjepa.workflows.evaluate",
    "executing_on": "crysjepa.runtime.executors",
    "export_genbench": "crysjepa.workflows.export",
    "export_matbench_discovery": "crysjepa.workflows.export",
    "Exported": "crysjepa.workflows.export",
    "finetune": "crysjepa.workflows.train",
    "FINETUNING": "crysjepa.workflows.train",
    "generate": "crysjepa.workflows.generate",
    "Generated": "crysjepa.workflows.generate",
    "hull": "crysjepa.workflows.relax",
    "merge": "crysjepa.workflows.parts",
    "PartRecord": "crysjepa.workflows.parts",
    "predict": "crysjepa.workflows.predict",
    "pretrain": "crysjepa.workflows.train",
    "relax": "crysjepa.workflows.relax",
    "report": "crysjepa.workflows.discover",
    "reproduce": "crysjepa.reproduction.run",
    "screen": "crysjepa.workflows.screen",
    "Screened": "crysjepa.workflows.screen",
    "tradeoff": "crysjepa.workflows.evaluate",
    "train": "crysjepa.workflows.train",
    "work_on_part": "crysjepa.workflows.parts",
}
"""Where each is, imported when it is first used: what one verb needs, another has no use for."""
_ELSEWHERE = {
    "CandidateTable": "crysjepa",
    "CrysJepa": "crysjepa.jepa.crys_jepa",
    "DiscoverConfig": "crysjepa.discovery.config",
    "MAX_CRYSTALS": "crysjepa.workflows.diagnose",
    "PRESETS": "crysjepa.discovery.config",
    "RelaxSettings": "crysjepa.relaxation.relax",
    "diagnose_table": "crysjepa.workflows.diagnose",
    "discover_crystals": "crysjepa.discovery.loop",
    "force_field_hull": "crysjepa.evaluation.force_field_hull",
    "force_field_status": "crysjepa.relaxation.force_fields.status",
    "read_header": "crysjepa.nn.checkpoint",
    "relax_crystals": "crysjepa.relaxation.relax",
    "resolve_device": "crysjepa.runtime.execution",
    "shipped": "crysjepa.weights",
    "versions": "crysjepa.runtime.run_directory",
    "write_parquet": "crysjepa.runtime.files",
    "write_report": "crysjepa.report.page",
}
"""What could once be had from here, and where it is. For one more release it still can."""


def __getattr__(name: str) -> Any:
    """A verb, imported now; a name of :data:`_ELSEWHERE`, with a DeprecationWarning."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _ELSEWHERE[name]
    warnings.warn(
        f"crysjepa.api.{name} goes with the next release: import it from {home}",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
