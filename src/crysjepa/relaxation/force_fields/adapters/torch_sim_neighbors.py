"""Neighbours for the models of torch-sim that let them be chosen."""

from __future__ import annotations

from typing import Any


def neighbors(positions: Any, cell: Any, pbc: Any, cutoff: Any, system_idx: Any) -> Any:
    """``torch_sim.neighbors.torchsim_nl``, and where that has no room for those of a crystal denser than
    0.2 atoms/Å³, the slower list that has.
    """
    import torch
    from nvalchemiops.neighbors.neighbor_utils import NeighborOverflowError
    from torch_sim.neighbors import torch_nl_linked_cell, torchsim_nl

    cutoff = torch.as_tensor(cutoff, dtype=positions.dtype, device=positions.device)
    try:
        return torchsim_nl(positions, cell, pbc, cutoff, system_idx)
    except NeighborOverflowError:
        return torch_nl_linked_cell(positions, cell, pbc, cutoff, system_idx)
