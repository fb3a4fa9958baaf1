"""Generators by name, by checkpoint or by file; those of other packages are in :mod:`.plug_ins`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crysjepa import datasets
from crysjepa.energy.known_hull import NAME
from crysjepa.generators import plug_ins
from crysjepa.generators.base import Generator
from crysjepa.generators.diffusion import generator as diffusion
from crysjepa.generators.diffusion.generator import DiffusionGenerator
from crysjepa.generators.flow import generator as flow_generator
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.from_file import FileGenerator, Pick
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.generators.substitution.proposals import SubstitutionConfig
from crysjepa.nn.checkpoint import CheckpointError, read_header
from crysjepa.weights import shipped

DEFAULT = "flow"


@dataclass(frozen=True)
class GeneratorOptions:
    """What a generator may be told; each takes what it knows.

    Parameters
    ----------
    source
        A checkpoint (``flow``, ``diffusion``) or the file of candidates (``file``).
    parents
        Known crystals that ``substitution`` starts from: a data set's name or a path.
    pick
        Of ``file``: the first N, or N drawn at random.
    substitution
        How bold substitution is.
    """

    source: Path | None = None
    parents: str | Path = NAME
    pick: Pick = "first"
    substitution: SubstitutionConfig = field(default_factory=SubstitutionConfig)


def _flow(options: GeneratorOptions) -> Generator:
    return FlowGenerator.load(options.source or shipped("generator"))


def _diffusion(options: GeneratorOptions) -> Generator:
    return DiffusionGenerator.load(options.source or shipped("ddpm"))


def _substitution(options: GeneratorOptions) -> Generator:
    table = datasets.load(options.parents)
    return SubstitutionGenerator.of(table, Path(options.parents).name, options.substitution)


def _file(options: GeneratorOptions) -> Generator:
    if options.source is None:
        raise ValueError("the generator file needs a file: give its path instead of the name")
    return FileGenerator.read(options.source, options.pick)


BUILT_IN: dict[str, Callable[[GeneratorOptions], Generator]] = {
    "flow": _flow,
    "diffusion": _diffusion,
    "substitution": _substitution,
    "file": _file,
}


def generator_names() -> list[str]:
    """What :func:`make_generator` knows by name, the built-in ones first."""
    return [*BUILT_IN, *sorted(set(plug_ins.plugins()) - set(BUILT_IN))]


def plug_in_of(source: str | Path | None) -> tuple[str | None, Path | None]:
    """Of ``NAME`` or ``NAME@FILE`` the plug-in's name and the file; None twice for any other generator."""
    name, at, path = str(source).partition("@")
    if name in BUILT_IN or name not in plug_ins.plugins():
        return None, None
    return name, Path(path) if at else None


def make_generator(source: str | Path | None = None, options: GeneratorOptions | None = None) -> Generator:
    """The generator of a name, in a checkpoint (``.safetensors``), or of any other file that io reads.

    A built-in name wins over a plug-in of the same name, and a name over a path. ``NAME@FILE`` is a plug-in
    as it was saved.

    Raises
    ------
    ValueError
        For what is neither a name nor a path, or a plug-in that does not work.
    CheckpointError
        If a checkpoint is missing or is no generator.
    """
    options = options or GeneratorOptions()
    name = DEFAULT if source is None else str(source)
    if name in BUILT_IN:
        return BUILT_IN[name](options)
    plug_in, saved = plug_in_of(name)
    if plug_in is not None:
        return plug_ins.make_plug_in(plug_in, options, saved)
    path = Path(name)
    if path.suffix == ".safetensors" or (path.is_file() and _is_safetensors(path)):
        return load_checkpoint(path)
    if path.exists():
        return FileGenerator.read(path, options.pick)
    known = ", ".join(generator_names())
    raise ValueError(f"no generator and no file {name!r}: the generators are {known}, or give a path")


def load_checkpoint(path: Path) -> Generator:
    """The generator in a checkpoint of any kind. Raises CheckpointError if there is none."""
    kinds: dict[str, Callable[[Path], Generator]] = {
        flow_generator.KIND: FlowGenerator.load,
        diffusion.KIND: DiffusionGenerator.load,
    }
    kind = read_header(path).get("kind")
    if kind not in kinds:
        raise CheckpointError(f"{path} holds {kind or 'something else'!r}, not a generator")
    return kinds[kind](path)


def _is_safetensors(path: Path) -> bool:
    """A header of JSON behind its length in eight bytes."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"
