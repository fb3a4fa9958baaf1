"""Generators of other packages, through an entry point of the group ``crysjepa.generators``.

A callable that takes :class:`crysjepa.generators.registry.GeneratorOptions` and returns something with the
method ``sample`` of :class:`crysjepa.generators.base.Sampler`. It is imported only when it is asked for.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from torch import nn

from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import NotTrainable, Samples
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.runtime.files import file_hash

GROUP = "crysjepa.generators"
REFINED = ("finetune", "save", "load")
"""What a plug-in must have, beside ``sample``, to be refined."""
_OPTIONAL = ("sample_within", "within", "element_shares")


@lru_cache(maxsize=1)
def plugins() -> dict[str, EntryPoint]:
    """The entry points, by name."""
    return {e.name: e for e in entry_points(group=GROUP)}


class PlugIn:
    """Anyone's generator as a :class:`crysjepa.generators.base.Generator`; what it lacks is said when needed.

    ``load(path)`` of the generator returns one as ``save(path)`` wrote it. Its ``finetune`` returns a new
    generator, or that and a :class:`~crysjepa.nn.training.Training` with a loss curve.
    """

    def __init__(self, name: str, generator: Any) -> None:
        self.name, self._generator = name, generator

    @property
    def lacks(self) -> tuple[str, ...]:
        """Which of the methods :data:`REFINED` it does not have."""
        return tuple(m for m in REFINED if not callable(getattr(self._generator, m, None)))

    def sample(self, num: int, *, prefix: str = "gen", **options: Any) -> Samples:
        """The plug-in's. Raises ValueError where it is not what was asked for."""
        return self._checked(self._generator.sample(num, prefix=prefix, **options), num, prefix)

    def _checked(self, found: Any, num: int, prefix: str) -> Samples:
        """What ``sample`` returned, if it is :class:`Samples` with the ids that were asked for."""
        if not isinstance(found, Samples):
            raise ValueError(
                f"the plug-in generator {self.name!r} returned a {type(found).__name__}: its method "
                "sample is to return crysjepa.generators.base.Samples"
            )
        ids, asked = [*found.crystals.ids, *found.failures], {f"{prefix}-{i}" for i in range(num)}
        if len(ids) != num or set(ids) != asked:
            strange = next((i for i in ids if i not in asked), f"{len(ids)} of {num}")
            raise ValueError(
                f"the plug-in generator {self.name!r} returned other ids than those asked for ({strange}): "
                f"crystals and failures together are to be {prefix}-0 to {prefix}-{num - 1}, each once"
            )
        return found

    def finetune(
        self, crystals: Crystals, settings: TrainSettings, **options: Any
    ) -> tuple[PlugIn, Training]:
        """The plug-in's. Raises NotTrainable."""
        found = self._method("finetune", "cannot be fine-tuned")(crystals, settings, **options)
        if not isinstance(found, tuple):
            found = found, Training(nn.Identity(), nn.Identity())
        return PlugIn(self.name, found[0]), found[1]

    def save(self, path: Path) -> None:
        """The plug-in's. Raises NotTrainable, and ValueError where no such file is there then."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._method("save", "cannot be saved")(path)
        if not path.is_file():  # numpy's savez, for one, adds a suffix of its own
            raise ValueError(f"the plug-in generator {self.name!r} was to save itself as {path}, and did not")

    def load(self, path: Path) -> PlugIn:
        """The plug-in as it was saved. Raises NotTrainable, and ValueError where it cannot be read."""
        method = self._method("load", "cannot be read from a file")
        try:
            return PlugIn(self.name, method(path))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(f"the plug-in generator {self.name!r} cannot read {path}: {why}") from error

    def _method(self, name: str, without: str) -> Any:
        if name in self.lacks:
            raise NotTrainable(f"{self.name} {without}: it has no method {name}")
        return getattr(self._generator, name)

    def __getattr__(self, attribute: str) -> Any:
        if attribute in _OPTIONAL:
            return getattr(self._generator, attribute)
        raise AttributeError(attribute)


def make_plug_in(name: str, options: Any, path: Path | None = None) -> PlugIn:
    """The plug-in of that name, as it was saved in ``path`` if one is given.

    Raises
    ------
    ValueError
        For one that does not work, or that cannot read the file.
    """
    entry = plugins()[name]
    try:
        made = entry.load()(options)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"the plug-in generator {name!r} ({entry.value}) does not work: {why}") from error
    if not callable(getattr(made, "sample", None)):
        raise ValueError(f"the plug-in generator {name!r} ({entry.value}) has no method sample")
    plug_in = PlugIn(name, made)
    return plug_in if path is None else plug_in.load(path)


def provenance(name: str, path: Path | None = None) -> str:
    """Where a plug-in is from: entry point, distribution, hashes of its module and of the file."""
    entry = plugins()[name]
    entry.load()
    source = getattr(sys.modules[entry.module], "__file__", None)
    parts = [f"{name} = {entry.value}"]
    parts += [f"{entry.dist.name} {entry.dist.version}"] if entry.dist is not None else []
    parts += [f"module {file_hash(Path(source))}"] if source is not None else []
    parts += [f"file {file_hash(path)}"] if path is not None else []
    return ", ".join(parts)
