"""Parsl on a CPU partition of Slurm: each block is a node of 32 cores, with a worker on each core.

    crysjepa relax new.parquet --out relaxed.parquet --executor parsl@parsl_cpu.py

Change the partition, the account and how the environment is activated.
"""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider
from parsl.usage_tracking.levels import DISABLED

config = Config(
    executors=[
        HighThroughputExecutor(
            label="cpu",
            cores_per_worker=1,
            max_workers_per_node=32,
            provider=SlurmProvider(
                partition="compute",
                account="my-account",
                nodes_per_block=1,
                cores_per_node=32,
                init_blocks=1,
                min_blocks=0,
                max_blocks=8,
                walltime="12:00:00",
                worker_init="source ~/venvs/crysjepa/bin/activate; export OMP_NUM_THREADS=1",
            ),
        )
    ],
    usage_tracking=DISABLED,
)
