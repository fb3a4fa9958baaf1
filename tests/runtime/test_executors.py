"""Work on executors of others: a pool of the standard library's, and Parsl on this machine."""

from __future__ import annotations

import ast
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pool_tasks
import pytest
from ase.build import bulk

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.relax import Relaxation, RelaxSettings, relax_crystals
from crysjepa.runtime import executor_pool
from crysjepa.runtime.executor_pool import ExecutorPool, do_task
from crysjepa.runtime.executors import device_for, executing_on, find_executors, on_executor, open_pool
from crysjepa.runtime.notes import UsageError

EMT_PATH = "ase.calculators.emt:EMT"
NASTY = "nasty_force_field:Nasty"
HELPERS = Path(pool_tasks.__file__).parent
CONFIG = """
import os
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
from parsl.usage_tracking.levels import DISABLED

config = Config(
    executors=[HighThroughputExecutor(
        label="cpu", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=1,
        heartbeat_period=2, heartbeat_threshold=10,
        provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init="export OMP_NUM_THREADS=1"),
    )],
    usage_tracking=DISABLED, run_dir=os.environ["PARSL_RUNS"], initialize_logging=False, retries=0,
)
"""


KINDS_CONFIG = """
import os
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider
from parsl.usage_tracking.levels import DISABLED

def gpus(label):
    return HighThroughputExecutor(
        label=label, available_accelerators=1, address="127.0.0.1", provider=LocalProvider(init_blocks=0)
    )

about = dict(usage_tracking=DISABLED, run_dir=os.environ["PARSL_RUNS"], initialize_logging=False)
config = Config(executors=[gpus("relax"), ThreadPoolExecutor(label="rest", max_threads=1)], **about)
mixed = Config(executors=[gpus("a"), ThreadPoolExecutor(label="b")], **about)
"""


def set_up_faulty() -> Callable[[Any], Any]:
    return raise_fault


def raise_fault(payload: Any) -> Any:
    if payload == 0:
        return "fine"
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


class NewProcessEach(Executor):
    """Carries each task out in a process of its own: none that is retired is met again."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(fn, *args, **kwargs)


def by_kind() -> dict[str, Executor]:
    gpu = ThreadPoolExecutor(1)
    gpu.device = "cuda"  # type: ignore[attr-defined]
    return {"relax": gpu, "generate": ThreadPoolExecutor(1)}


@pytest.fixture
def no_fault() -> Iterator[None]:
    yield
    executor_pool.FAULT.clear()


@pytest.fixture
def parsl_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("parsl")
    monkeypatch.setenv("PARSL_RUNS", str(tmp_path / "runs"))
    paths = [str(HELPERS), *(p for p in sys.path if p)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    (tmp_path / "cluster.py").write_text(CONFIG, encoding="utf-8")
    return f"parsl@{tmp_path / 'cluster.py'}"


def alloys(num: int = 5) -> Crystals:
    atoms = [bulk("Cu", "fcc", a=3.5 + 0.05 * i, cubic=i % 2 == 0) for i in range(num)]
    return Crystals.from_atoms(atoms, [f"cu-{i}" for i in range(num)])


def relaxed(crystals: Crystals, shards: Path, **more: Any) -> Relaxation:
    settings = RelaxSettings(max_steps=3, chunk_size=2, **more)
    return relax_crystals(crystals, force_field=EMT_PATH, settings=settings, processes=1, shards=shards)


def same(one: Path, other: Path) -> bool:
    names = sorted(p.name for p in one.glob("*.parquet"))
    assert names
    return all((one / n).read_bytes() == (other / n).read_bytes() for n in names)


def test_relaxation_on_a_pool_of_the_standard_library(tmp_path: Path) -> None:
    here = relaxed(alloys(), tmp_path / "here")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool, executing_on(pool):
        there = relaxed(alloys(), tmp_path / "there")
    assert there.crystals.content_hash() == here.crystals.content_hash()
    assert same(tmp_path / "here", tmp_path / "there")


@pytest.mark.filterwarnings("ignore")  # of Parsl's
def test_relaxation_on_parsl_and_a_crystal_that_kills_its_worker(tmp_path: Path, parsl_config: str) -> None:
    here = relaxed(alloys(), tmp_path / "here")
    with executing_on(parsl_config):
        there = relaxed(alloys(), tmp_path / "there")
        killers = Crystals.from_atoms(
            [bulk("He", "fcc", a=3.0), bulk("Cu", "fcc", a=3.6), bulk("Ar", "fcc", a=5.0)],
            ["kills", "fine", "raises"],
        )
        nasty = relax_crystals(killers, force_field=NASTY, settings=RelaxSettings(max_steps=2))
    assert there.crystals.content_hash() == here.crystals.content_hash()
    assert same(tmp_path / "here", tmp_path / "there")
    assert set(nasty.records) == {"fine"}
    assert nasty.failures["raises"].endswith("ArithmeticError: argon is not for me")
    assert "process was lost" in nasty.failures["kills"]


def test_every_task_has_its_outcome() -> None:
    with ThreadPoolExecutor(2) as threads, ExecutorPool(threads, pool_tasks.set_up_arithmetic, ()) as pool:
        for key, payload in enumerate([1, 2, 0, 4]):
            pool.submit(key, payload)
        done = dict(pool.results())
    assert {k: d.value for k, d in done.items() if d.kind == "done"} == {0: 1.0, 1: 0.5, 3: 0.25}
    assert done[2].kind == "raised" and "ZeroDivisionError" in done[2].trouble


def test_a_set_up_that_fails_ends_the_work() -> None:
    with ThreadPoolExecutor(1) as threads, ExecutorPool(threads, pool_tasks.set_up_and_raise, ()) as pool:
        pool.submit("a", 1)
        with pytest.raises(RuntimeError, match="could not be set up: LookupError: no weights here"):
            list(pool.results())


@pytest.mark.usefixtures("no_fault")
def test_a_process_whose_accelerator_failed_takes_no_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_pool, "RETIRED_FOR", 0.0)
    set_up = pickle.dumps((set_up_faulty, (), {}))
    assert do_task(set_up, 1, None)[0] == "fault"
    sound = pickle.dumps((pool_tasks.set_up_arithmetic, (), {}))
    assert do_task(sound, 1, None)[0] == "retired"
    with ThreadPoolExecutor(1) as threads, ExecutorPool(threads, set_up_faulty, ()) as pool:
        pool.submit("a", 1)
        with pytest.raises(RuntimeError, match=r"none is left that works: .*uncorrectable ECC"):
            list(pool.results())


@pytest.mark.slow
def test_a_task_that_upsets_each_accelerator_is_charged_and_no_other() -> None:
    with NewProcessEach() as executor, ExecutorPool(executor, set_up_faulty, ()) as pool:
        for key, payload in enumerate((0, 1, 0)):
            pool.submit(key, payload)
        done = dict(pool.results())
    assert [done[0].value, done[2].value] == ["fine", "fine"]
    assert done[1].kind == "raised" and "on 3 processes the accelerator failed" in done[1].trouble


def test_kinds_of_work_have_executors_of_their_own() -> None:
    assert device_for("relax", "cpu") == "cpu" and not on_executor("relax")
    with executing_on("test_executors:by_kind"):
        assert (device_for("relax", "cpu"), device_for("generate", "cpu")) == ("cuda", "cpu")
        assert on_executor("relax") and on_executor("generate") and not on_executor("check")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_parsl_ends_with_a_head_that_is_killed(tmp_path: Path, parsl_config: str) -> None:
    """Or its blocks would hold their nodes until the walltime."""
    code = f"""
from pathlib import Path
import os, signal
from crysjepa.runtime.executors import executing_on
with executing_on({parsl_config!r}):
    own = [p.parent.name for p in Path("/proc").glob("[0-9]*/stat")
           if p.read_text().rsplit(")", 1)[1].split()[1] == str(os.getpid())]
    print([i for i in own if b"interchange" in Path(f"/proc/{{i}}/cmdline").read_bytes()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    head = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert head.returncode == -signal.SIGKILL
    (interchange,) = ast.literal_eval(head.stdout)
    until = time.monotonic() + 60
    while Path(f"/proc/{interchange}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{interchange}").exists()


class Stubborn(Executor):
    """Its futures never end, but the first, and cannot be cancelled: as Parsl's."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = Uncancelled()
        if args[1] == 0:
            future.set_result(fn(*args))
        return future


class Uncancelled(Future[Any]):
    def cancel(self) -> bool:
        raise NotImplementedError


def test_an_error_is_not_hidden_by_what_cannot_be_cancelled() -> None:
    with (
        pytest.raises(RuntimeError, match="could not be set up: LookupError"),
        ExecutorPool(Stubborn(), pool_tasks.set_up_and_raise, ()) as pool,
    ):
        for payload in (1, 0):
            pool.submit(payload, payload)
        list(pool.results())


@pytest.mark.filterwarnings("ignore")  # of Parsl's
def test_labels_of_parsl_are_kinds_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("parsl")
    monkeypatch.setenv("PARSL_RUNS", str(tmp_path / "runs"))
    (tmp_path / "kinds.py").write_text(KINDS_CONFIG, encoding="utf-8")
    for _ in range(2):  # and again in the same process
        with executing_on(f"parsl@{tmp_path / 'kinds.py'}"):
            assert [device_for(kind, "cpu") for kind in ("generate", "relax", "check")] == [
                "cpu",
                "cuda",
                "cpu",
            ]
            with open_pool("generate", pool_tasks.set_up_arithmetic, (), 1) as pool:
                pool.submit("a", 4)
                assert [(k, d.value) for k, d in pool.results()] == [("a", 0.25)]
    with pytest.raises(UsageError, match="would generate, some with accelerators and some without"):
        find_executors(f"parsl@{tmp_path / 'kinds.py'}:mixed")


def test_an_executor_by_name(tmp_path: Path) -> None:
    assert find_executors(None) is None and find_executors("local") is None
    made = find_executors("concurrent.futures:ThreadPoolExecutor")
    assert made is not None and isinstance(made.of["relax"], ThreadPoolExecutor)
    made.close()
    for wrong, why in (
        ("dask", "give local, parsl@FILE"),
        ("no.such.module:thing", "no executor"),
        ("concurrent.futures:nothing", "no executor"),
        ("io:StringIO", "which is no concurrent.futures.Executor"),
        ("collections:OrderedDict", "gives no executor"),
        (f"ray@{tmp_path}", "give local"),
    ):
        with pytest.raises(UsageError, match=why):
            find_executors(wrong)


def test_parsl_without_its_configuration(tmp_path: Path) -> None:
    pytest.importorskip("parsl")
    (tmp_path / "other.py").write_text("config = 3\n")
    with pytest.raises(UsageError, match="no such file"):
        find_executors(f"parsl@{tmp_path / 'absent.py'}")
    with pytest.raises(UsageError, match=r"is no parsl\.config\.Config, but a int"):
        find_executors(f"parsl@{tmp_path / 'other.py'}")


@pytest.mark.parametrize(
    ("name", "devices"), [("parsl_cpu", {"cpu": False}), ("parsl_gpu", {"relax": True, "cpu": False})]
)
def test_the_configurations_of_the_page(name: str, devices: dict[str, bool]) -> None:
    """Parsl takes them; their executors do what docs/cluster.md says."""
    pytest.importorskip("parsl")
    path = Path(__file__).parents[2] / "docs" / "examples" / f"{name}.py"
    tell = (
        f"import runpy; c = runpy.run_path({str(path)!r})['config']; "
        "print({e.label: bool(e.available_accelerators) for e in c.executors})"
    )  # elsewhere: executors of Parsl's that are never started leave sockets open
    done = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == devices
