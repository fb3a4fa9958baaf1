"""Workers that die, dawdle or are left alone."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pool_tasks
import pytest
from nasty_force_field import SLEEPS

from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.worker_pool import WorkerPool


@pytest.fixture(autouse=True)
def _tasks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))


def test_pool_survives_death_and_delay() -> None:
    tasks = {"a": 2, "b": "die", "c": 4, "d": "sleep", "e": 0, "f": "exit", "g": 8, "h": "environment"}
    with WorkerPool(pool_tasks.set_up_arithmetic, (), 2, {"OMP_NUM_THREADS": "1"}) as pool:
        for key, payload in tasks.items():
            pool.submit(key, payload, time_limit=2.0 if payload == "sleep" else None)
        results = {}
        for key, done in pool.results():
            results[key] = (done.kind, done.value, done.trouble)
            if key == "b":
                pool.submit("again", 16)
        assert results == {
            "a": ("done", 0.5, ""),
            "b": ("died", None, "process died (signal 9)"),
            "c": ("done", 0.25, ""),
            "d": ("late", None, "took longer than 2 s"),
            "e": ("raised", None, "ZeroDivisionError: division by zero"),
            "f": ("died", None, "process died (exit code 3)"),
            "g": ("done", 0.125, ""),
            "h": ("done", "1", ""),
            "again": ("done", 0.0625, ""),
        }
    assert multiprocessing.active_children() == []


def test_a_task_may_have_another_try(tmp_path: Path) -> None:
    with WorkerPool(pool_tasks.set_up_die_once, (f"{tmp_path}/",), 2) as pool:
        for value in (3, 4, -1):
            pool.submit(value, value, tries=2)
        found = {key: (done.kind, done.value) for key, done in pool.results()}
    assert found == {3: ("done", 9), 4: ("done", 16), -1: ("died", None)}


def test_pieces_of_a_killed_process_are_tried_again_alone(tmp_path: Path) -> None:
    def squares(values: list[int]) -> list[int]:
        return list(in_processes(pool_tasks.die_once, [(f"{tmp_path}/", v) for v in values], 2))

    assert squares([*range(1, 40)]) == [v * v for v in range(1, 40)]  # 13 deaths
    with pytest.raises(LookupError, match="a hundred"):
        squares([1, 100, 2])
    with pytest.raises(RuntimeError, match=r"process died \(signal 9\), twice"):
        squares([1, -1, 2])
    assert multiprocessing.active_children() == []


def test_pool_leaves_nobody_behind_when_interrupted() -> None:
    def interrupted() -> None:
        with WorkerPool(pool_tasks.set_up_arithmetic, (), 2) as pool:
            pool.submit(0, "pid")
            pool.submit(1, "sleep")
            for _key, done in pool.results():
                assert alive(done.value)
                pids.append(done.value)
                raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert multiprocessing.active_children() == []
    assert pids and not alive(pids[0])


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ("set_up_and_die", r"die while they are set up \(exit code 5\)"),
        ("set_up_and_raise", "no weights here"),
    ],
)
def test_pool_that_cannot_be_set_up_says_so(setup: str, message: str) -> None:
    with WorkerPool(getattr(pool_tasks, setup), (), 1) as pool:
        pool.submit(0, 1)
        with pytest.raises(RuntimeError, match=message):
            list(pool.results())
    assert multiprocessing.active_children() == []


OF_THE_POOL = f"""
from ase import Atoms
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.relax import relax_crystals

if __name__ == "__main__":
    atoms = Atoms(numbers=[{SLEEPS}], cell=[3.0] * 3, pbc=True)
    crystals = Crystals.from_atoms([atoms])
    relax_crystals(crystals, force_field="nasty_force_field:Nasty", processes=1)
"""
OF_AN_EXECUTOR = """
from crysjepa.runtime.processes import in_processes
from pool_tasks import tell_pid_and_sleep

if __name__ == "__main__":
    list(in_processes(tell_pid_and_sleep, [(), ()], 2))
"""


@pytest.mark.parametrize("text", [OF_THE_POOL, OF_AN_EXECUTOR], ids=["pool", "executor"])
def test_workers_end_when_their_parent_is_killed(text: str, tmp_path: Path) -> None:
    """Also: it works from a script with a main guard."""
    pids = tmp_path / "pids"
    script = tmp_path / "script.py"
    script.write_text(text)
    path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": path, "NASTY_PIDS": str(pids)}
    )
    try:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        workers = [int(pid) for pid in pids.read_text().split()]
        assert all(worker != parent.pid and alive(worker) for worker in workers)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(map(alive, workers)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] in "ZX")


def wait_until(happened: Any) -> None:
    while not happened():  # pytest's own timeout ends a wait in vain
        time.sleep(0.05)


LONG = """
import os, tempfile
os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="x" * 90)
from crysjepa.runtime.processes import in_processes
from math import sqrt

if __name__ == "__main__":
    assert list(in_processes(sqrt, [(4.0,), (9.0,)], 2)) == [2.0, 3.0]
"""


def test_workers_start_where_the_folder_for_temporary_files_has_a_long_name(tmp_path: Path) -> None:
    """The server's socket does not fit there."""
    script = tmp_path / "script.py"
    script.write_text(LONG)
    subprocess.run([sys.executable, script], check=True, timeout=120)


def test_a_module_that_cannot_be_preloaded_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text("raise OSError('libtorch')")
    script = tmp_path / "script.py"
    script.write_text(
        "from crysjepa.runtime.worker_pool import WorkerPool\n"
        "from pool_tasks import set_up_arithmetic\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(set_up_arithmetic, (), 1, preload=['breaks', 'no_such_module']) as pool:\n"
        "        pool.submit(0, 2)\n"
        "        assert [done.value for _, done in pool.results()] == [0.5]\n"
    )
    helpers = Path(__file__).parents[1] / "helpers"
    path = os.pathsep.join([str(tmp_path), str(helpers), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, script], check=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
