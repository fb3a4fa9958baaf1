import subprocess
import sys

import pytest

from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import read_json
from crysjepa.runtime.run_directory import Run

CONFIG, INPUTS = {"seed": 1, "deep": {"a": [1, 2]}}, {"reference": "abc"}


def test_a_stage_is_done_once(tmp_path):
    calls = []

    def work():
        calls.append(1)
        (tmp_path / "run" / "a.txt").write_text("a")

    for _ in range(3):
        Run(tmp_path / "run", CONFIG, INPUTS).stage("make", ["a.txt"], work)
    assert len(calls) == 1
    (tmp_path / "run" / "a.txt").write_text("touched")
    assert Run(tmp_path / "run", CONFIG, INPUTS).stage("make", ["a.txt"], work) is True
    assert len(calls) == 2
    record = read_json(tmp_path / "run" / "run.json")
    assert set(record["stages"]) == {"make"} and record["versions"]["crysjepa"]


def test_an_unfinished_stage_runs_again(tmp_path):
    run = Run(tmp_path / "run", CONFIG, INPUTS)

    def fail():
        (tmp_path / "run" / "a.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.stage("make", ["a.txt"], fail)
    assert not run.is_done("make", ["a.txt"])


def test_another_run_is_not_overwritten(tmp_path):
    finished = Run(tmp_path / "run", CONFIG, INPUTS)
    finished.stage("make", ["a.txt"], lambda: finished.path("a.txt").write_text("a"))
    with pytest.raises(RunError, match=r"other settings \(seed\)"):
        Run(tmp_path / "run", {**CONFIG, "seed": 2}, INPUTS)
    with pytest.raises(RunError, match="another reference"):
        Run(tmp_path / "run", CONFIG, {"reference": "xyz"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="other files"):
        Run(tmp_path / "full", CONFIG, INPUTS)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_run_without_a_finished_stage_may_be_set_up_anew(tmp_path):
    """A typo that stopped the first try, or a kill in the first write, does not lock the folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.partial").write_text("{")
    Run(folder, CONFIG, INPUTS)
    Run(folder, {**CONFIG, "seed": 2}, INPUTS)
    assert read_json(folder / "config.json")["seed"] == 2


def test_a_broken_record_is_named(tmp_path):
    Run(tmp_path / "run", CONFIG, INPUTS)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is not valid JSON"):
        Run(tmp_path / "run", CONFIG, INPUTS)


def test_two_processes_do_not_share_a_run(tmp_path):
    """A lock of the system's: it is gone with the process that held it, however that ended."""
    code = (
        "import sys, time; from pathlib import Path; from crysjepa.runtime.run_directory import Run; "
        "run = Run(Path(sys.argv[1]), {'seed': 1}, {}); print('open', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"open\n"
    try:
        with pytest.raises(RunError, match="another process is at work"):
            Run(tmp_path / "run", {"seed": 1}, {})
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    Run(tmp_path / "run", {"seed": 1}, {})
