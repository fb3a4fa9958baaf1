"""The same calculations as atomate2 flows, in jobflow's JSON; atomate2 is the extra ``dft``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from pymatgen.core import Structure

from crysjepa.dft.vasp.manifest import STAGES

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID, _FOLDER, _STRUCTURE = "@id@", "@folder@", "@structure@"


class FlowWriter:
    """Writes flows of atomate2's MPGGADoubleRelaxStaticMaker, a crystal to a file.

    The maker takes half a second for each flow (jobflow makes the schema of the output documents anew for
    every reference to one), and flows of different crystals differ in the structure and the uuids alone. One
    is made, therefore, without a structure, and those are filled in; its jobs look at the structure only when
    they run.

    Raises
    ------
    ImportError
        Where atomate2 is not installed; the message names the extra.
    RuntimeError
        Where atomate2's flow is no longer of three jobs of which the first takes the structure.
    """

    def __init__(self) -> None:
        maker = _maker()
        from monty.json import MontyEncoder

        flow = maker.make(_STRUCTURE)
        flow.name = _FOLDER
        flow.update_metadata({"crysjepa": {"id": _ID, "folder": _FOLDER}})
        self._template = json.dumps(flow, cls=MontyEncoder)
        self._jobs = [job.uuid for job, _ in flow.iterflow()]
        if len(self._jobs) != len(STAGES) or self._template.count(f'"{_STRUCTURE}"') != 1:
            raise RuntimeError("this version of atomate2 makes other flows: use --as folders")

    def write(self, structure: Structure, path: Path, id_: str, folder: str) -> dict[str, str]:
        """Write the flow of one crystal, and return the stage of each of its jobs by uuid.

        ``monty.serialization.loadfn`` gives the jobflow Flow back. Its jobs carry ``{"crysjepa": {"id": ...,
        "folder": ...}}`` as metadata, which jobflow copies to their output documents. The uuids are drawn at
        random, as a job store needs them, so that two exports differ in them.
        """
        fresh = {old: str(uuid4()) for old in _UUID.findall(self._template)}
        text = _UUID.sub(lambda found: fresh[found[0]], self._template)
        for placeholder, value in ((_FOLDER, folder), (_STRUCTURE, structure.as_dict()), (_ID, id_)):
            text = text.replace(f'"{placeholder}"', json.dumps(value))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        return {fresh[job]: stage for job, stage in zip(self._jobs, STAGES, strict=True)}


def _maker() -> Any:
    try:
        from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
    except ImportError as error:
        raise ImportError(
            f"flows need atomate2 ({error}): pip install 'crysjepa[dft]'; or ask for plain input folders "
            "alone, with --as folders"
        ) from error
    return MPGGADoubleRelaxStaticMaker()
