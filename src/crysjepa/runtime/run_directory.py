"""A run directory: what was asked, with what, which stages are done, and how to go on.

``config.json`` holds the resolved configuration, ``run.json`` versions, hashes of inputs and artefacts and
the seconds that each finished stage took. A stage is finished when ``run.json`` lists its artefacts; it is
run again only if an artefact is missing or is no longer what was recorded.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crysjepa import __version__
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import file_hash, read_json, write_json
from crysjepa.runtime.progress import LOG

_PACKAGES = ("torch", "numpy", "pymatgen", "ase", "chgnet", "smact", "moyopy", "pyarrow")


LOCK = ".lock"


class Run:
    """An open run directory, which no other process may open meanwhile.

    Parameters
    ----------
    folder
        Made if it is not there.
    config
        The resolved configuration: everything that decides the results. A directory that was made with
        another one is refused, so that nothing is overwritten silently.
    inputs
        ``{name: hash}`` of every input; they too must agree when a run goes on.
    overwrite
        Begin anew, whatever run is there.

    Raises
    ------
    RunError
        If the directory holds another run, or other files.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        wanted = json.loads(json.dumps(config, sort_keys=True))
        _refuse_foreign(self.folder)
        self._lock = locked(self.folder)
        if overwrite:
            self._forget()
        self._check(wanted, dict(inputs))
        if not (self.folder / "run.json").exists():
            write_json(self.folder / "config.json", wanted)
            write_json(self.folder / "run.json", {**_provenance(), "inputs": dict(inputs), "stages": {}})

    def _forget(self) -> None:
        """What stages left goes, and they are not done."""
        path = self.folder / "run.json"
        if not path.exists():
            return
        record = read_json(path)
        for stage in record["stages"].values():
            for name in stage["artefacts"]:
                (self.folder / name).unlink(missing_ok=True)
        write_json(path, {**record, "stages": {}})

    def _check(self, config: dict[str, Any], inputs: dict[str, str]) -> None:
        old = [self.folder / name for name in ("config.json", "run.json")]
        if not old[1].exists():
            return  # new, or killed during the first two writes, before any work
        recorded = read_json(old[1])
        if not recorded["stages"]:
            old[1].unlink()  # no stage was finished: another try, with other settings perhaps, loses nothing
            return
        before = read_json(old[0])
        changed = sorted(k for k in before.keys() | config.keys() if before.get(k) != config.get(k))
        if changed:
            raise RunError(
                f"{self.folder} was made with other settings ({', '.join(changed)}): choose another --out, "
                "the settings in its config.json to go on with it, or --overwrite"
            )
        differ = sorted(k for k in inputs if recorded["inputs"].get(k) != inputs[k])
        if differ:
            raise RunError(
                f"{self.folder} was made from another {', '.join(differ)}: choose another --out, or "
                "--overwrite"
            )
        if recorded["versions"]["crysjepa"] != __version__:
            raise RunError(
                f"{self.folder} was made with crysjepa {recorded['versions']['crysjepa']}, "
                f"this is {__version__}: choose another --out, or --overwrite"
            )

    def path(self, name: str) -> Path:
        """Path of a file in the run directory."""
        return self.folder / name

    def stage(self, name: str, artefacts: Sequence[str], work: Callable[[], object]) -> bool:
        """Do ``work`` unless this stage is done; it must write the ``artefacts``. Returns whether it ran."""
        if self.is_done(name, artefacts):
            return False
        started = time.monotonic()
        work()
        record = read_json(self.path("run.json"))
        record["stages"][name] = {
            "artefacts": {a: file_hash(self.path(a)) for a in artefacts},
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self.path("run.json"), record)
        return True

    def is_done(self, name: str, artefacts: Sequence[str]) -> bool:
        """Whether the stage's artefacts are all there, as they were written."""
        hashes = read_json(self.path("run.json"))["stages"].get(name, {}).get("artefacts", {})
        return set(hashes) == set(artefacts) and all(
            self.path(a).exists() and file_hash(self.path(a)) == hashes[a] for a in artefacts
        )


def _refuse_foreign(folder: Path) -> None:
    """Raises RunError for a file, and for a folder of other files than a run's."""
    if folder.is_file():
        raise RunError(f"{folder} is a file: choose a folder for --out")
    if not folder.exists() or (folder / "run.json").exists():
        return
    names = {p.name for p in folder.iterdir() if not p.name.endswith(".partial")}
    if not names <= {"config.json", LOCK, LOG}:
        raise RunError(f"{folder} holds other files and is no crysjepa run: choose another --out")


def locked(folder: Path) -> FileLock | None:
    """A lock on the folder, which the system takes back when the process ends, however it does.

    Raises RunError if another process holds it. None where the file system knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"another process is at work in {folder}: wait, or choose another --out") from None
    except NotImplementedError:
        return None
    return lock


def versions() -> dict[str, str]:
    """Versions of crysjepa, Python and the libraries that results depend on."""
    found = {"crysjepa": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _provenance() -> dict[str, Any]:
    return {"versions": versions(), "platform": platform.platform()}
