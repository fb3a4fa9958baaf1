"""Generators by name, checkpoint, file and plug-in."""

import sys
from importlib.metadata import EntryPoint

import pytest

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.generators import plug_ins
from crysjepa.generators.base import NotTrainable, Samples, load_generator
from crysjepa.generators.diffusion.generator import DiffusionGenerator
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.from_file import FileGenerator
from crysjepa.generators.plug_ins import PlugIn
from crysjepa.generators.registry import GeneratorOptions, generator_names, make_generator
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.nn.checkpoint import CheckpointError
from crysjepa.nn.training import TrainSettings

PLUGIN = """
from crysjepa.generators.base import Samples

class Parrot:
    def __init__(self, options):
        self.options = options

    def sample(self, num, *, seed=0, device="cpu", prefix="gen", progress=None):
        return Samples(__import__("crysjepa.core.crystals").core.crystals.Crystals.empty(),
                       {f"{prefix}-{i}": f"parents {self.options.parents}" for i in range(num)})

def broken(options):
    raise RuntimeError("out of crackers")

def no_generator(options):
    return 7
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """What three installed packages would register, in a module of their own."""
    (tmp_path / "parrot_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    found = {
        name: EntryPoint(name, f"parrot_plugin:{what}", plug_ins.GROUP)
        for name, what in (("parrot", "Parrot"), ("mute", "broken"), ("seven", "no_generator"))
    }
    found["absent"] = EntryPoint("absent", "no_such_package_at_all:make", plug_ins.GROUP)
    monkeypatch.setattr(plug_ins, "plugins", lambda: found)
    yield
    sys.modules.pop("parrot_plugin", None)


def test_names_checkpoints_and_files(tiny, salts, tmp_path):
    assert isinstance(make_generator(), FlowGenerator)
    assert isinstance(make_generator("diffusion"), DiffusionGenerator)
    assert isinstance(make_generator(tiny.generator), FlowGenerator)
    assert isinstance(load_generator(tiny.generator), FlowGenerator)
    of_tiny = make_generator("flow", GeneratorOptions(source=tiny.generator))
    assert isinstance(of_tiny, FlowGenerator) and len(of_tiny.templates) == 2
    with pytest.raises(CheckpointError, match="'flow-generator', not 'ddpm-generator'"):
        make_generator("diffusion", GeneratorOptions(source=tiny.generator))
    with pytest.raises(CheckpointError, match="'crys-jepa', not a generator"):
        make_generator(tiny.jepa)
    assert isinstance(
        make_generator("substitution", GeneratorOptions(parents=tiny.reference)), SubstitutionGenerator
    )
    CandidateTable.from_crystals(salts).write(tmp_path / "salts.parquet")
    assert isinstance(make_generator(tmp_path / "salts.parquet"), FileGenerator)
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "a.cif").write_text(str(salts[:1].to_structures()[0].to(fmt="cif")))
    assert make_generator(tmp_path / "cifs").sample(1).crystals.reduced_formulas() == ["NaCl"]


def test_a_checkpoint_needs_no_suffix(tiny, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(tiny.generator.read_bytes())
    assert isinstance(make_generator(path), FlowGenerator)


def test_what_is_neither_is_named():
    with pytest.raises(ValueError, match="no generator and no file 'magic': the generators are flow, di"):
        make_generator("magic")
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        make_generator("none.safetensors")
    with pytest.raises(ValueError, match="needs a file"):
        make_generator("file")


def test_a_plug_in_is_made_with_the_options(plugins):
    assert generator_names() == [
        "flow",
        "diffusion",
        "substitution",
        "file",
        "absent",
        "mute",
        "parrot",
        "seven",
    ]
    made = make_generator("parrot", GeneratorOptions(parents="mine"))
    samples = made.sample(2, seed=1)
    assert isinstance(samples, Samples) and samples.failures == {
        "gen-0": "parents mine",
        "gen-1": "parents mine",
    }
    with pytest.raises(NotTrainable, match="parrot cannot be fine-tuned: it has no method finetune"):
        made.finetune(samples.crystals, TrainSettings())


def test_broken_plug_ins_are_named_and_only_when_asked_for(plugins):
    make_generator("diffusion")
    with pytest.raises(
        ValueError, match=r"'mute' \(parrot_plugin:broken\) does not work: RuntimeError: out of"
    ):
        make_generator("mute")
    with pytest.raises(
        ValueError, match=r"'absent' .* ModuleNotFoundError: No module named 'no_such_package"
    ):
        make_generator("absent")
    with pytest.raises(ValueError, match=r"'seven' .* has no method sample"):
        make_generator("seven")


def test_entry_points_are_looked_up():
    plug_ins.plugins.cache_clear()
    assert all(entry.group == plug_ins.GROUP for entry in plug_ins.plugins().values())


class Quiet:
    """Draws nothing but reasons, with the ids that were asked for."""

    def sample(self, num, *, prefix="gen", **options):
        return Samples(Crystals.empty(), {f"{prefix}-{i}": "shy" for i in range(num)})

    def save(self, path):
        path.write_text("{}")


class Talkative(Quiet):
    def sample(self, num, **options):
        return list(range(num))


class Unasked(Quiet):
    def sample(self, num, *, prefix="gen", **options):
        return super().sample(num, prefix=f"{prefix}-own")


class Short(Quiet):
    def sample(self, num, *, prefix="gen", **options):
        return super().sample(num - 1, prefix=prefix)


def test_what_a_plug_in_draws_is_looked_at():
    assert len(PlugIn("bird", Quiet()).sample(3, seed=1).failures) == 3
    for kind, said in (
        (Talkative, "returned a list: its method sample"),
        (Unasked, "gen-own-0"),
        (Short, "2 of 3"),
    ):
        with pytest.raises(ValueError, match=said):
            PlugIn("bird", kind()).sample(3)


def test_a_plug_in_is_saved_in_a_folder_that_is_not_there_yet(tmp_path):
    class Writing(Quiet):
        def load(self, path):
            return self

        def finetune(self, crystals, settings, **options):
            return self

    PlugIn("bird", Writing()).save(tmp_path / "round-1" / "generator.model")
    assert (tmp_path / "round-1" / "generator.model").read_text() == "{}"
