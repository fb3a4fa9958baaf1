"""The loop with a generator of another package."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import plug_ins as installed
import pytest

from crysjepa import api
from crysjepa.cli import arguments
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.generators import plug_ins
from crysjepa.generators.base import NotTrainable
from crysjepa.generators.registry import make_generator
from crysjepa.nn.training import TrainSettings
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.notes import ReadNote, UsageError

COMPARED = ("candidates.parquet", "metrics.json", "round-1/generator.model")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installed for this process, and in a folder for others."""
    folder = tmp_path / "site"
    folder.mkdir()
    installed.install(folder)
    monkeypatch.syspath_prepend(folder)
    plug_ins.plugins.cache_clear()
    yield folder
    sys.modules.pop("salt_generators", None)
    plug_ins.plugins.cache_clear()


def settings(tiny, **changes):
    values = {
        "reference": str(tiny.reference), "jepa": str(tiny.jepa), "generator": "learning", "num": 12,
        "num_refined": 6, "oversample": 1, "drift": None, "finetune": {"steps": 1, "batch_size": 4},
        "protocol": {**tiny.protocol, "e_above_hull_max": 50.0},
    }  # fmt: skip
    return DiscoverConfig(**values | changes)


def test_a_plug_in_learns_and_the_run_says_where_it_is_from(tiny, package, tmp_path):
    out = tmp_path / "run"
    discover_crystals(settings(tiny), out)
    chosen = CandidateTable.read(out / "round-1" / "finetuning_set.parquet").crystals()
    learnt = json.loads((out / "round-1" / "generator.model").read_text())
    systems = [set(s.split("-")) for s in chosen.chemical_systems()]
    assert learnt == {m: 1 + sum(m in s for s in systems) for m in learnt} and len(systems)
    assert CandidateTable.read(out / "candidates.parquet").column("round") == [0] * 12 + [1] * 6
    origin = json.loads((out / "run.json").read_text())["inputs"]["generator"]
    module = file_hash(package / "salt_generators.py")
    assert origin == f"learning = salt_generators:Learning, salt-generators 1.0, module {module}"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["protocol"]["generator"] == origin
    assert not any("not refined" in note for note in metrics["notes"])


def test_another_plug_in_does_not_go_on_with_a_run(tiny, package, tmp_path):
    class Stopped(Exception):
        pass

    def progress(stage, done, total):
        if stage.startswith("relax (base)"):
            raise Stopped

    with pytest.raises(Stopped):
        discover_crystals(settings(tiny), tmp_path / "run", progress=progress)
    with (package / "salt_generators.py").open("a") as file:
        file.write("# another version\n")
    with pytest.raises(RunError, match="made from another generator"):
        discover_crystals(settings(tiny), tmp_path / "run")


def test_what_cannot_learn_is_a_fixed_source_and_that_is_said(tiny, package, tmp_path):
    with pytest.warns(ReadNote, match="fixed is not refined: it has no method finetune and no method save"):
        discover_crystals(settings(tiny, generator="fixed"), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [r["num_crystals"] for r in metrics["rounds"]] == [12]
    said = "fixed was not refined: it has no method finetune and no method save and no method load."
    assert any(said in note for note in metrics["notes"]) and "Stopped" not in " ".join(metrics["notes"])
    assert said in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_finetune_and_generate_take_what_was_saved(tiny, package, tmp_path):
    tuned = tmp_path / "tuned.model"
    api.finetune(tiny.reference, tuned, generator="learning", device="cpu")
    with pytest.warns(ReadNote, match="nothing was done"):
        api.finetune(tiny.reference, tuned, generator="learning", device="cpu")
    twice = tmp_path / "twice.model"
    api.finetune(tiny.reference, twice, generator=f"learning@{tuned}", device="cpu")
    once, again = (json.loads(path.read_text()) for path in (tuned, twice))
    assert {m: 2 * n - 1 for m, n in once.items()} == again and max(once.values()) > 1
    for generator in ("learning", f"learning@{tuned}"):
        out = tmp_path / f"{generator.replace('/', '-')}.parquet"
        api.generate(8, out, generator=generator, device="cpu", processes=1)
    with pytest.raises(ValueError, match="'learning' cannot read"):
        make_generator(f"learning@{tmp_path / 'none'}")


def test_what_a_plug_in_lacks_is_said(package, salts, tmp_path):
    made = make_generator("fixed")
    for method, what in ((made.save, "saved"), (made.load, "read from a file")):
        with pytest.raises(NotTrainable, match=f"fixed cannot be {what}: it has no method"):
            method(tmp_path / "x")
    with pytest.raises(NotTrainable, match="fixed cannot be fine-tuned: it has no method finetune"):
        made.finetune(salts, TrainSettings())
    with pytest.raises(ValueError, match=r"was to save itself as .*model, and did not"):
        make_generator("misnaming").save(tmp_path / "some.model")


@pytest.mark.parametrize(
    "name, says",
    [("magic", "no such checkpoint and no plug-in: magic"), ("substitution", 'source = "substitution"'),
     ("learning@none", "no such file: none, which is to hold the plug-in learning as it was saved")],
)  # fmt: skip
def test_what_discover_cannot_draw_from_is_said_first(package, tmp_path, name, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        arguments.refined_generator(name)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'generator = "{name}"\n')
    with pytest.raises(UsageError, match=re.escape(says)):
        arguments.look_at(config=settings)
    arguments.refined_generator("learning")


@pytest.mark.slow
def test_a_killed_run_of_a_plug_in_goes_on_to_the_same_bytes(tiny, package, tmp_path):
    """SIGKILL on the real command, which finds the plug-in by its entry point."""
    protocol = tiny.protocol
    config = tmp_path / "settings.toml"
    config.write_text(f"""
reference = "{tiny.reference}"
jepa = "{tiny.jepa}"
num_refined = 8
oversample = 1
drift = "off"
[finetune]
steps = 1
batch_size = 4
[protocol]
force_field = "{protocol["force_field"]}"
elemental_references = "{protocol["elemental_references"]}"
e_above_hull_max = 50.0
trust = "off"
relaxation = {{max_steps = 3, chunk_size = 4}}
""")
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}

    def command(out):
        start = [sys.executable, "-m", "crysjepa", "discover", "--out", str(tmp_path / out), "--num", "12"]
        return [*start, "--config", str(config), "--device", "cpu", "--generator", "learning"]

    whole = subprocess.run(command("whole"), env=environment, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    running = subprocess.Popen(
        command("run"), env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "round-1" / "generator.model").exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "run" / "report.html").exists()
    done = subprocess.run(command("run"), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMPARED:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
