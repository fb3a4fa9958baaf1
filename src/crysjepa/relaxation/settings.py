"""How to relax."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

GPU_CHUNKS = {"chunk_size": 200, "chunk_sites": 2000}
"""Chunks on a GPU: with few crystals it waits for the launch of some 1,800 small operations a step."""


class RelaxSettings(BaseModel):
    """How to relax.

    ``fmax`` (eV/Å) bounds the norm of every row of the cell filter's forces, the atoms' and the cell's,
    which is ASE's criterion. ``time_limit`` is in seconds per crystal; None waits for ever. A chunk is of at
    most ``chunk_size`` crystals; of them so many move together that their sites are at most ``chunk_sites``,
    which bounds the memory (one alone may have more), and where one has arrived, the next sets out. Where
    both have their defaults, CUDA has :data:`GPU_CHUNKS`.

    ``engine`` is what takes the steps: an ASE optimiser for each crystal, on any force field, or torch-sim's
    FIRE for all of a batch at once (:mod:`crysjepa.relaxation.torch_sim_engine`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["fire", "quasi-newton", "lbfgs", "bfgs"] = "fire"
    cell_filter: Literal["frechet", "exp"] = "frechet"
    fmax: float = Field(default=0.05, gt=0)
    max_steps: int = Field(default=500, ge=0)
    chunk_size: int = Field(default=12, ge=1)
    chunk_sites: int = Field(default=600, ge=1)
    time_limit: float | None = Field(default=300.0, gt=0)
    engine: Literal["crysjepa", "torch-sim"] = "crysjepa"

    @model_validator(mode="after")
    def _engine_can(self) -> RelaxSettings:
        if self.engine == "torch-sim" and (self.optimizer, self.cell_filter) != ("fire", "frechet"):
            raise ValueError(
                f"the engine torch-sim has the optimizer fire with the cell_filter frechet, not "
                f"{self.optimizer} with {self.cell_filter}"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_engines(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.engine == "crysjepa":  # what is on disk says nothing of it, and is to be found again
            found.pop("engine", None)
        return found

    def on(self, device: str) -> RelaxSettings:
        """With a GPU's chunks in place of the defaults, where the device is one."""
        fields = type(self).model_fields
        chosen = any(getattr(self, name) != fields[name].default for name in GPU_CHUNKS)
        return self.model_copy(update=GPU_CHUNKS) if device.startswith("cuda") and not chosen else self


PAPER = RelaxSettings(optimizer="fire", cell_filter="exp", fmax=0.05, max_steps=500)
"""The protocol of Crys-JEPA: FIRE with ASE's exponential cell filter, 0.05 eV/Å, at most 500 steps."""
QUICK = RelaxSettings(optimizer="fire", cell_filter="frechet", fmax=0.1, max_steps=150)
"""Good enough to rank candidates."""
