"""Parsl on GPU nodes of Slurm: each block is a node of four GPUs, with one worker pinned to each.

    crysjepa relax new.parquet --out relaxed.parquet --device cuda --executor parsl@parsl_gpu.py

Change the partition, the account, the number of GPUs and how the environment is activated. ``--device cuda``
wants a GPU where the command itself runs, too: start it on a GPU node.
"""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider
from parsl.usage_tracking.levels import DISABLED

config = Config(
    executors=[
        HighThroughputExecutor(
            label="gpu",
            available_accelerators=4,
            max_workers_per_node=4,
            provider=SlurmProvider(
                partition="gpu",
                account="my-account",
                nodes_per_block=1,
                scheduler_options="#SBATCH --gpus-per-node=4",
                init_blocks=1,
                min_blocks=0,
                max_blocks=4,
                walltime="12:00:00",
                worker_init="source ~/venvs/crysjepa/bin/activate; export OMP_NUM_THREADS=1",
            ),
        )
    ],
    usage_tracking=DISABLED,
)
