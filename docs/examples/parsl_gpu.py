"""Parsl on Slurm: relaxation on nodes of four GPUs, one worker each; all else on CPU nodes of 32 cores.

    crysjepa discover --out run --executor parsl@parsl_gpu.py

Change the partitions, the account, the number of GPUs and how the environment is activated. An executor whose
label is ``relax``, ``generate`` or ``check`` does that kind of work, the others all else.
"""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider
from parsl.usage_tracking.levels import DISABLED

ACCOUNT = "my-account"
ACTIVATE = "source ~/venvs/crysjepa/bin/activate; export OMP_NUM_THREADS=1"

config = Config(
    executors=[
        HighThroughputExecutor(
            label="relax",
            available_accelerators=4,
            max_workers_per_node=4,
            provider=SlurmProvider(
                partition="gpu",
                account=ACCOUNT,
                nodes_per_block=1,
                scheduler_options="#SBATCH --gpus-per-node=4",
                init_blocks=1,
                min_blocks=0,
                max_blocks=4,
                walltime="12:00:00",
                worker_init=ACTIVATE,
            ),
        ),
        HighThroughputExecutor(
            label="cpu",
            cores_per_worker=1,
            max_workers_per_node=32,
            provider=SlurmProvider(
                partition="compute",
                account=ACCOUNT,
                nodes_per_block=1,
                cores_per_node=32,
                init_blocks=1,
                min_blocks=0,
                max_blocks=2,
                walltime="12:00:00",
                worker_init=ACTIVATE,
            ),
        ),
    ],
    usage_tracking=DISABLED,
)
