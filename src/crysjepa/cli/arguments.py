"""What was asked for on the command line, looked at before anything is imported that takes time.

The names here are those that the registries know; a test holds them together.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crysjepa.data.bundle import NAME
from crysjepa.datasets.registry import REGISTRY
from crysjepa.io.kinds import kind_of
from crysjepa.runtime.notes import UsageError

if TYPE_CHECKING:
    from crysjepa.cli.groups import Aimed, Judged, Wanted
    from crysjepa.generators.constraints import ConstraintOptions, Constraints

DEVICES = ("auto", "cpu", "cuda", "mps")
FORCE_FIELDS = (
    "chgnet", "sevennet", "sevennet-l3i5", "mattersim", "mattersim-5m", "mace", "mace-mp-0b3", "mace-omat-0",
    "orb", "orb-omat", "orb-direct-omat", "uma-s-1", "fairchem",
)  # fmt: skip
RANKERS = ("jepa-distance", "jepa-hull", "jepa-relaxed", "fingerprint", "composition", "random")
"""Beside the force fields."""
GENERATORS = ("flow", "diffusion", "substitution", "file")
"""Those that come with crysjepa."""
PAPERS = ("paper-mp20", "paper-alex-mp20")
RUNS = ("quick", *PAPERS)
ENGINES = ("crysjepa", "torch-sim")
JUDGINGS = ("default", "paper", "strict", "mattergen", "genbench")


def look_at(
    *,
    sources: Iterable[str | Path | None] = (),
    tables: Iterable[str | Path | None] = (),
    checkpoints: Iterable[str | Path | None] = (),
    force_field: str | None = None,
    device: str = "auto",
    config: Path | None = None,
) -> None:
    """What most verbs are told. None is what was not said.

    Parameters
    ----------
    sources
        Crystals: data sets' names or paths of a known kind.
    tables
        The same, but of any kind: hulls and finished runs.

    Raises
    ------
    UsageError
        For a path that is not there, a name that nothing has, and a TOML file that is none.
    """
    for source in sources:
        _known(source, of_kind=True)
    for source in tables:
        _known(source)
    for path in checkpoints:
        if path is not None and not os.path.isfile(path):  # noqa: PTH113 - no error where it may not be looked at
            raise UsageError(f"no such checkpoint: {path} (a file that crysjepa wrote)")
    if force_field is not None:
        known_force_field(force_field)
    choice("device", device, DEVICES)
    if config is not None:
        _look_at_settings(settings_in(config))


def settings_in(config: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises UsageError where it cannot be read, or is none."""
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the settings {config} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{config} is not valid TOML: {error}") from None


def judged_by(by: Judged, others: Iterable[str | Path | None], device: str) -> None:
    """What crystals are judged by, with ``others`` that are judged. Raises UsageError as :func:`look_at`."""
    choice("preset", by.preset, JUDGINGS)
    tables = [*others, by.reference, by.hull]
    look_at(tables=tables, force_field=by.force_field, device=device, config=by.config)


def apart(source: str | Path, out: Path) -> None:
    """Raises UsageError for an output inside the folder that is read: the next time it would be read too."""
    folder = Path(source)
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{out} lies in {source}, which is read: choose a place outside of it")


def known_judges(names: str | None) -> None:
    """Names of force fields parted by commas, or ``none``. Raises UsageError for one that nothing has."""
    for name in (n.strip() for n in (names or "").split(",")):
        if name and name != "none":
            known_force_field(name)


def _look_at_settings(settings: dict[str, Any]) -> None:
    """What a TOML file names has to be there. Raises UsageError."""
    for name in ("reference", "hull"):
        if isinstance(value := settings.get(name), str):
            _known(value)
    refined_generator(settings.get("generator"))
    for name in ("jepa", "elemental_references"):
        if isinstance(value := settings.get(name), str) and not os.path.exists(value):  # noqa: PTH110 - as above
            raise UsageError(f"the settings name a file that is not there: {name} = {value!r}")
    if isinstance(value := settings.get("force_field"), str):
        known_force_field(value)
    for value in settings.values():
        if isinstance(value, dict):
            _look_at_settings(value)


def choice(what: str, value: str | None, among: Iterable[str]) -> None:
    """Raises UsageError for a value that is none of those there are."""
    names = list(among)
    if value is not None and value not in names:
        raise UsageError(f"no {what} {value!r}{_near(value, names)}: choose from {', '.join(names)}")


def known_force_field(name: str) -> None:
    """A name, one with a checkpoint of one's own, or ``module:attribute``."""
    base, at, checkpoint = name.partition("@")
    if ":" in base and not at:
        return
    if base not in FORCE_FIELDS:
        raise UsageError(
            f"no force field {base!r}{_near(base, FORCE_FIELDS)}: choose from {', '.join(FORCE_FIELDS)}, or "
            "name an ASE calculator as module:attribute"
        )
    if at and not os.path.exists(checkpoint):  # noqa: PTH110 - as above
        raise UsageError(f"no such checkpoint: {checkpoint}")


def known_generator(name: str | None) -> str:
    """The generator's name, or ``file`` or ``checkpoint`` for a path. Raises UsageError for neither."""
    if name is None:
        return GENERATORS[0]
    plugged_in = _plug_ins()
    if name in GENERATORS or name in plugged_in:
        return name
    if (base := name.partition("@")[0]) in plugged_in - set(GENERATORS):
        saved = name.removeprefix(f"{base}@")
        if not os.path.isfile(saved):  # noqa: PTH113 - as above
            raise UsageError(f"no such file: {saved}, which is to hold the plug-in {base} as it was saved")
        return base
    path = Path(name)
    if path.exists():
        if path.suffix == ".safetensors" or path.is_dir():
            return "checkpoint" if path.is_file() else "file"
        with path.open("rb") as file:
            return "checkpoint" if file.read(9)[8:] == b"{" else "file"
    names = [*GENERATORS, *sorted(plugged_in - set(GENERATORS))]
    raise UsageError(
        f"no generator and no file {name!r}{_near(name, names)}: the generators are {', '.join(names)}, or "
        "give a path"
    )


def refined_generator(name: object) -> None:
    """What ``discover`` draws from: a checkpoint or a plug-in. Raises UsageError for what is neither."""
    if not isinstance(name, str) or os.path.isfile(name):  # noqa: PTH113 - as above
        return
    if name in GENERATORS or name.partition("@")[0] not in _plug_ins():
        raise UsageError(
            f'no such checkpoint and no plug-in: {name}. The flow is the default; source = "substitution" in '
            "the file of --config has substitution draw the first round"
        )
    known_generator(name)


def _plug_ins() -> set[str]:
    return {e.name for e in importlib.metadata.entry_points(group="crysjepa.generators")}


def objectives_of(aimed: Aimed) -> list[str]:
    """Objectives as they were told. Raises UsageError for one that cannot be read."""
    choice("way to combine", aimed.combine, ("product", "pareto"))
    if not aimed.objective:
        return []
    from crysjepa.properties.aims import Aims
    from crysjepa.properties.base import PropertyError

    try:
        Aims.parse(aimed.objective)
    except PropertyError as error:
        raise UsageError(str(error)) from None
    return aimed.objective


def without_effect(what: str, **options: object) -> None:
    """Raises UsageError for an option that was given (is neither None nor False) where it does nothing."""
    given = [
        f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False, ())
    ]
    if given:
        raise UsageError(f"{', '.join(given)} does nothing {what}: leave it out")


def constraints_of(wanted: Wanted) -> Constraints:
    """The constraints. Raises UsageError for what is none, and for those that contradict one another."""
    from crysjepa.generators.constraints import ConstraintError, Constraints

    try:
        return Constraints.parse(**told(wanted))
    except ConstraintError as error:
        raise UsageError(str(error)) from None


def told(wanted: Wanted) -> ConstraintOptions:
    """Constraints as they were told, None for those that were not."""
    from crysjepa.generators.constraints import ConstraintOptions

    return cast("ConstraintOptions", {n: getattr(wanted, n) for n in ConstraintOptions.__annotations__})


def _known(source: str | Path | None, *, of_kind: bool = False) -> None:
    if source is None or str(source) == NAME:
        return
    path = Path(source)
    if path.exists():
        if of_kind and path.is_file() and kind_of(path.name) is None:
            raise UsageError(
                f"{path.name} is of no known kind: crysjepa reads .cif, .extxyz, .vasp, .csv, .json, .jsonl, "
                ".pt, .parquet, .traj, .db, .zip and folders (docs/formats.md)"
            )
        return
    if str(source) not in REGISTRY:
        hint = _near(str(source), [*REGISTRY])
        raise UsageError(
            f"no data set and no file {str(source)!r}{hint}: the data sets are {', '.join(REGISTRY)}"
        )


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
