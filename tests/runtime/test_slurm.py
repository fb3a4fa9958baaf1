"""On a real Slurm: an array of parts, and Parsl's blocks. Skipped where no Slurm answers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pool_tasks
import pytest
from ase.build import bulk

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.executors import executing_on

EMT_PATH = "ase.calculators.emt:EMT"
SETTINGS = RelaxSettings(max_steps=3, chunk_size=2)
BIN = Path(sys.executable).parent
CONFIG = """
import os
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider
from parsl.usage_tracking.levels import DISABLED

config = Config(
    executors=[HighThroughputExecutor(
        label="slurm", address="127.0.0.1", max_workers_per_node=1, cores_per_worker=1,
        heartbeat_period=2, heartbeat_threshold=6,
        provider=SlurmProvider(
            partition=os.environ["SLURM_TEST_PARTITION"], init_blocks=1, min_blocks=1, max_blocks=2,
            cores_per_node=1, exclusive=False, walltime="00:10:00", worker_init=os.environ["WORKER_INIT"],
        ),
    )],
    usage_tracking=DISABLED, run_dir=os.environ["PARSL_RUNS"], initialize_logging=False, retries=0,
    strategy="simple",
)
"""


def partition() -> str | None:
    """The default partition, where a Slurm answers and has a node that works."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return None
    try:
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%P %t"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = [line.split() for line in done.stdout.splitlines()]
    return next((w[0].rstrip("*") for w in words if len(w) == 2 and w[1] in ("idle", "mix")), None)


WHERE = partition()
pytestmark = pytest.mark.skipif(WHERE is None, reason="no Slurm answers here")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a job needs in order to find this Python and the package under test."""
    paths = os.pathsep.join([str(Path(pool_tasks.__file__).parent), *(p for p in sys.path if p)])
    told = f"export PATH={BIN}:$PATH PYTHONPATH={paths} OMP_NUM_THREADS=1"
    monkeypatch.setenv("WORKER_INIT", told)
    monkeypatch.setenv("PARSL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SLURM_TEST_PARTITION", WHERE or "")
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return told


@pytest.fixture
def source(tmp_path: Path) -> Path:
    atoms = [bulk("Cu", "fcc", a=3.4 + 0.05 * i, cubic=i % 3 == 0) for i in range(12)]
    table = CandidateTable.from_crystals(Crystals.from_atoms(atoms, [f"cu-{i}" for i in range(12)]))
    table.write(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> bytes:
    api.relax(source, tmp_path / "whole.parquet", force_field=EMT_PATH, settings=SETTINGS)
    return (tmp_path / "whole.parquet").read_bytes()


def submitted(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def kill_head(head: subprocess.Popen[bytes]) -> None:
    head.send_signal(signal.SIGKILL)
    head.wait()


def kill_worker(head: subprocess.Popen[bytes]) -> None:
    subprocess.run(["pkill", "-KILL", "-n", "-f", "process_worker_pool"], check=False, timeout=60)


def cancel_block(head: subprocess.Popen[bytes]) -> None:
    jobs = submitted("squeue", "-h", "-t", "RUNNING", "-o", "%i").split()
    subprocess.run(["scancel", *jobs[:1]], check=False, timeout=60)


def drain_node(head: subprocess.Popen[bytes]) -> None:
    """Its jobs are ended, and it takes none for a while."""
    nodes = submitted("sinfo", "-h", "-o", "%N")
    drain = ["scontrol", "update", f"nodename={nodes}", "state=down", "reason=test"]
    subprocess.run(drain, check=True, timeout=60, capture_output=True)
    time.sleep(3.0)
    resume = ["scontrol", "update", f"nodename={nodes}", "state=resume"]  # refused where it is back already
    subprocess.run(resume, check=False, timeout=60, capture_output=True)


def wait_for(job: str, limit: float = 240.0) -> None:
    until = time.monotonic() + limit
    while submitted("squeue", "-h", "-j", job, "-o", "%i") and time.monotonic() < until:
        time.sleep(1.0)


@pytest.mark.timeout(600)
def test_an_array_of_parts_one_of_them_cancelled(
    environment: str, source: Path, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "shared.parquet"
    (tmp_path / "relax.toml").write_text("max_steps = 3\nchunk_size = 2\n")
    script = tmp_path / "array.sh"
    script.write_text(
        f"#!/bin/bash\n{environment}\n"
        f"python -m crysjepa relax {source} --out {out} --force-field {EMT_PATH} --processes 1 "
        f"--config {tmp_path}/relax.toml --part auto\n"
    )
    sbatch = ["sbatch", "--parsable", f"--chdir={tmp_path}", "--ntasks=1", "--cpus-per-task=1"]
    job = submitted(*sbatch, "--array=1-3", str(script))
    subprocess.run(["scancel", f"{job}_2"], check=True, timeout=60)
    wait_for(job)
    logs = "\n".join(p.read_text() for p in tmp_path.glob("slurm-*.out"))
    with pytest.raises(ValueError, match="2 is missing"):
        api.merge(out)
    assert "part 1/3 is done" in logs and "part 3/3 is done" in logs, logs
    api.work_on_part("2/3", "relax", source, out, force_field=EMT_PATH, settings=SETTINGS)
    api.merge(out)
    assert out.read_bytes() == whole


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of Parsl's
def test_parsl_submits_to_slurm_and_a_block_is_cancelled(
    environment: str, source: Path, whole: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("parsl")
    (tmp_path / "cluster.py").write_text(CONFIG, encoding="utf-8")
    out, cancelled = tmp_path / "shared.parquet", list[str]()

    def cancel_once(stage: str, done: int, total: int) -> None:
        if done and not cancelled:
            jobs = submitted("squeue", "-h", "-t", "RUNNING", "-o", "%i").split()
            cancelled.extend(jobs[:1])
            subprocess.run(["scancel", *jobs[:1]], check=True, timeout=60)

    with executing_on(f"parsl@{tmp_path / 'cluster.py'}"):
        api.relax(source, out, force_field=EMT_PATH, settings=SETTINGS, progress=cancel_once)
    assert cancelled and out.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_interrupted_at_random_places(environment: str, tmp_path: Path) -> None:
    """CRYSJEPA_INTERRUPTS=10 CRYSJEPA_CRYSTALS=2000 for the whole of it."""
    pytest.importorskip("parsl")
    num, interrupts = (
        int(os.environ.get(n, d)) for n, d in (("CRYSJEPA_CRYSTALS", 200), ("CRYSJEPA_INTERRUPTS", 4))
    )
    rng = random.Random(7)
    atoms = [bulk(("Cu", "Al", "Ni", "Au")[i % 4], cubic=True) * (1, 1, 2) for i in range(num)]
    for i, one in enumerate(atoms):
        one.rattle(0.1, seed=i)
    source, out = tmp_path / "many.parquet", tmp_path / "shared.parquet"
    CandidateTable.from_crystals(Crystals.from_atoms(atoms, [f"m-{i}" for i in range(num)])).write(source)
    settings = RelaxSettings(max_steps=20, chunk_size=5, fmax=0.001)
    api.relax(source, tmp_path / "whole.parquet", force_field=EMT_PATH, settings=settings)
    (tmp_path / "cluster.py").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "relax.toml").write_text("max_steps = 20\nchunk_size = 5\nfmax = 0.001\n")
    command = [
        sys.executable, "-m", "crysjepa", "relax", str(source), "--out", str(out), "--force-field", EMT_PATH,
        "--config", str(tmp_path / "relax.toml"), "--executor", f"parsl@{tmp_path / 'cluster.py'}",
    ]  # fmt: skip
    shards, done = Path(f"{out}.shards"), list[tuple[str, int]]()
    paths = os.pathsep.join([str(Path(pool_tasks.__file__).parent), *(p for p in sys.path if p)])
    head = None
    try:
        while not out.exists():
            if head is None or head.poll() is not None:
                assert head is None or head.returncode in (0, -signal.SIGKILL), head.returncode
                head = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths})
            before = len(list(shards.glob("*.parquet")))
            wanted = (len(done) + 1) * num / 5 / (interrupts + 1)
            if len(done) < interrupts and before >= wanted:
                kind = (kill_head, kill_worker, cancel_block, drain_node)[(len(done) + rng.randrange(2)) % 4]
                done.append((kind.__name__, before))
                kind(head)
            time.sleep(0.05)
        assert head is not None and head.wait(120) == 0
    finally:
        if head is not None and head.poll() is None:
            head.kill()
        subprocess.run(["scancel", "-u", str(os.getuid())], check=False, timeout=60)
    print(done)
    assert len(done) == interrupts
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.timeout(600)
def test_the_script_of_the_page(environment: str, source: Path, whole: bytes, tmp_path: Path) -> None:
    """As it stands in docs/cluster.md, but for the size of the array, the environment and the command."""
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    block = page[page.index("    #!/bin/bash") :]
    lines = [line[4:] for line in block[: block.index("\n\n")].splitlines()]
    (tmp_path / "relax.toml").write_text("max_steps = 3\nchunk_size = 2\n")
    new = {
        "#SBATCH --array": "#SBATCH --array=1-2",
        "#SBATCH --cpus-per-task": "#SBATCH --cpus-per-task=1",
        "#SBATCH --mem": "#SBATCH --mem=2G",
        "source ": environment,
        "crysjepa relax ": f"python -m crysjepa relax {source} --out {tmp_path}/out.parquet "
        f"--force-field {EMT_PATH} --config {tmp_path}/relax.toml \\",
    }
    written = [next((text for start, text in new.items() if line.startswith(start)), line) for line in lines]
    assert sum(a != b for a, b in zip(written, lines, strict=True)) == len(new)
    (tmp_path / "script.sh").write_text("\n".join(written) + "\n")
    wait_for(submitted("sbatch", "--parsable", f"--chdir={tmp_path}", str(tmp_path / "script.sh")))
    assert len(list(tmp_path.glob("slurm-*.out"))) == 2
    api.merge(tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == whole
