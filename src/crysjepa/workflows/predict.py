"""The verb ``predict``: the structures of a formula, into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from crysjepa.prediction.means import Means
from crysjepa.prediction.predict import predict_structures
from crysjepa.prediction.settings import PredictSettings
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.workflows.inputs import Source
from crysjepa.workflows.output import check_folder


def predict(
    formula: str,
    out: Source,
    *,
    settings: PredictSettings | None = None,
    **how: Unpack[ExecutionOptions],
) -> dict[str, Any]:
    """Candidates of one formula, ranked, the best relaxed, the polymorphs ordered by energy.

    What is written, and returned, says :func:`crysjepa.prediction.predict.predict_structures`.

    Parameters
    ----------
    formula
        Such as ``"LiMnPO4"``.
    out
        A folder; a run that was interrupted there goes on.
    how
        See :class:`~crysjepa.runtime.execution.Execution`. The results do not depend on ``processes``.

    Raises
    ------
    UsageError
        For what is no formula, elements that are not known, and more sites than ``settings.max_sites``.
    RunError
        If the folder holds another run, or other files.
    """
    run = Execution(**how)
    check_folder(out)
    means = Means.of(
        formula, settings or PredictSettings(), device=run.found_device, processes=run.processes,
        report=run.progress,
    )  # fmt: skip
    return predict_structures(means, Path(out), overwrite=run.overwrite)
