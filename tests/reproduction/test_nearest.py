"""The choice of Table 2's fingerprints, from the distances that ``tradeoff`` keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from plain_crystals import table_of_formulas

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.reproduction.plan import plan_for
from crysjepa.reproduction.run import Reproduction


def test_the_nearest_of_what_may_be_chosen(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    pool = table_of_formulas("NaCl", "KCl", "RbCl", "CsCl")
    pool = pool.decide("novelty", {"KCl": "known"}, Status.REJECTED)
    pool.write(base / "crystals.parquet")
    distances = pd.DataFrame({"id": pool.ids, "fingerprint_distance": [0.3, 0.1, np.nan, 0.2]})
    distances.to_parquet(base / "tradeoff.parquet", index=False)
    (base / "tradeoff.html").write_text("newer than the crystals")
    plan = plan_for("paper-mp20", 1 / 1024).model_copy(update={"training": str(base / "crystals.parquet")})
    reproduction = Reproduction(plan=plan, out=tmp_path)
    reproduction.nearest(pool, 2, tmp_path / "chosen.parquet")
    assert CandidateTable.read(tmp_path / "chosen.parquet").ids == ["CsCl", "NaCl"]
