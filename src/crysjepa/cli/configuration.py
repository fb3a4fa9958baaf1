"""From options and TOML files to settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from crysjepa.cli.arguments import settings_in
from crysjepa.runtime.notes import UsageError

if TYPE_CHECKING:
    from crysjepa.cli.groups import ForGenerator, Judged
    from crysjepa.evaluation.protocol import Protocol
    from crysjepa.generators.diffusion.generator import LatticeNoise
    from crysjepa.generators.registry import GeneratorOptions
    from crysjepa.jepa.network import Objective as ObjectiveName
    from crysjepa.nn.training import TrainSettings


Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(
    kind: type[Settings], config: Path | None = None, base: Settings | None = None, **changes: Any
) -> Settings:
    """Defaults, then the TOML file, then what was said on the command line (None: nothing was said).

    Raises UsageError, naming each setting, where the file is not TOML or a value is not allowed.
    """
    values = base.model_dump() if base is not None else {}
    if config is not None:
        given = settings_in(config)
        if name := _not_finite(given):
            raise UsageError(f"settings: {name} in {config} is not a finite number")
        values = merged(values, given)
    values = merged(values, {k: v for k, v in changes.items() if v is not None})
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        lines = [f"{name}: {text}" if name else text.removeprefix("Value error, ") for name, text in found]
        raise UsageError(f"settings: {'; '.join(lines)}") from error


def _not_finite(values: dict[str, Any]) -> str:
    """The name of the first NaN or infinity in settings, tables within tables too; nothing for none."""
    for key, value in values.items():
        if isinstance(value, dict) and (inner := _not_finite(value)):
            return f"{key}.{inner}"
        if isinstance(value, float) and not math.isfinite(value):
            return key
    return ""


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``old`` with the values of ``new`` in their places, tables within tables too."""
    both = {
        k: merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v
        for k, v in new.items()
    }
    return {**old, **both}


def train_settings(
    config: Path | None, steps: int | None, base: TrainSettings | None = None
) -> TrainSettings:
    """Settings of a training: ``base`` (or the defaults), then the TOML file, then ``steps``."""
    from crysjepa.nn.training import TrainSettings

    return read_settings(TrainSettings, config, base, steps=steps)


def judging_settings(by: Judged, relaxed: bool | None = None, source: str | None = None) -> Protocol:
    """The preset of that name, changed by the TOML file and by what was said on the command line.

    Without a preset, ``source``, if it is a finished run, is judged as it was, and energies that come with it
    are taken for what they are.
    """
    from crysjepa.evaluation.given import energies_of, protocol_of
    from crysjepa.evaluation.protocol import Protocol
    from crysjepa.evaluation.protocol import preset as preset_of

    base = preset_of(by.preset or "default")
    if by.preset is None and source is not None:
        base = protocol_of(source) or base
        origin = energies_of(source)
        if origin is not None and relaxed is None:
            base = base.model_copy(update={"force_field": origin.force_field})
    return read_settings(Protocol, by.config, base, force_field=by.force_field, relax=relaxed)


def judging_folder(source: str, out: Path | None, hull: str | None, phases: str | None = None) -> Path:
    """Where to write a judgement: ``out``, or a folder inside the finished run that is judged anew.

    Raises ValueError where there is neither.
    """
    from crysjepa.evaluation.given import is_run

    if out is not None:
        return out
    if not is_run(source):
        raise ValueError("name a folder to write to: --out FOLDER")
    names = [Path(hull or "known").stem, *([phases.partition("=")[0]] if phases else [])]
    return Path(source) / f"judged-by-{'-'.join(names)}"


def generator_options(own: ForGenerator) -> GeneratorOptions:
    """What a generator is told. Raises ValueError for a value that is not allowed."""
    from crysjepa.generators.registry import GeneratorOptions
    from crysjepa.generators.substitution.proposals import SubstitutionConfig

    config = (
        SubstitutionConfig() if own.temperature is None else SubstitutionConfig(temperature=own.temperature)
    )
    pick: Literal["first", "random"] = "random" if own.pick == "random" else "first"
    return GeneratorOptions(parents=own.parents or "known", pick=pick, substitution=config)


def known_noise(name: str | None) -> LatticeNoise | None:
    """``name``, where there is such a kind of lattice noise; raises ValueError otherwise."""
    for known in ("crystal", "site"):
        if name == known:
            return known
    if name is None:
        return None
    raise UsageError(f"no lattice noise {name!r}: choose crystal or site")


def known_objective(name: str | None) -> ObjectiveName | None:
    """``name``, where there is such an objective; raises ValueError otherwise."""
    for known in ("energy", "info-nce", "info-nce-unweighted", "sigreg"):
        if name == known:
            return known
    if name is None:
        return None
    raise UsageError(f"no objective {name!r}: choose energy, info-nce, info-nce-unweighted or sigreg")
