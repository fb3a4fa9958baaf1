"""``.pt`` files of crystals, as CDVAE and its descendants write them."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import MAX_COORDINATE
from crysjepa.io.arrow_rows import elements
from crysjepa.io.cif.blocks import RawCrystal, ReadError, brief
from crysjepa.io.entry import Entry, attempt
from crysjepa.io.structures import cell_of, check_degrees, same_shape
from crysjepa.runtime.notes import note

_LARGEST = 1_000_000
"""Numbers in a tensor that need not be in the file: a view of one number, say."""
_KINDS = (100, 118)
"""Columns of scores that are the elements from hydrogen on; with others, one may be a mask."""
_KEYS = ("frac_coords", "num_atoms", "atom_types", "lengths", "angles", "lattices")
_TORCH_ADVICE = (
    "Save only the tensors, with the program that wrote it: torch.save({k: d[k] for k in ('frac_coords', "
    "'atom_types', 'lengths', 'angles', 'num_atoms')}, 'crystals.pt')"
)


def read_torch(path: Path, stem: str) -> list[Entry]:
    """An entry for each crystal of a ``.pt`` file as CDVAE and its descendants write it.

    ``frac_coords`` (N, 3), ``num_atoms`` (B,), ``atom_types`` (N,) or scores (N, C) whose 100 or 118 columns
    are the elements from hydrogen on, and ``lengths`` with ``angles`` (B, 3) or ``lattices`` (B, 3, 3); each
    may have a leading dimension of evaluations. That is what the scripts of CDVAE, DiffCSP, DiffCSP++, SymmCD
    and CrysLLMGen save (``eval_gen.pt`` and the like), with ``eval_setting``, an ``argparse.Namespace`` that
    is not looked at. A list of such dictionaries is read one after the other: FlowMM and FlowLLM save one for
    each batch of predictions (made after their code; no published file was at hand). Coordinates are wrapped
    into the cell. No pickled code is run.

    Raises
    ------
    ReadError
        If the file needs code to be run, or its tensors contradict one another.
    """
    import torch

    _check_packing(path)
    try:
        # A namespace of settings is a plain holder of values: to rebuild one runs nothing of the file's.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for a foreign file; the reason is kept
        found = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(
            r"Unsupported \w+:? ([\w.]+)", str(error)
        )
        if found:
            raise ReadError(
                f"the file holds more than tensors ({found.group(1)}) and would have to "
                f"run code to be read, which crysjepa does not. {_TORCH_ADVICE}"
            ) from error
        raise ReadError(f"not a file of tensors, or a truncated one: {brief(error)}") from error
    if isinstance(loaded, list | tuple) and loaded and all(isinstance(part, dict) for part in loaded):
        if len(loaded) == 1:
            return _torch_entries(_tensors(loaded[0]), stem)
        return [
            entry
            for number, part in enumerate(loaded)
            for entry in _torch_entries(_tensors(part), f"{stem}-{number}")
        ]
    if not isinstance(loaded, dict):
        raise ReadError(
            f"the file holds a {type(loaded).__name__}, not a dictionary of tensors. {_TORCH_ADVICE}"
        )
    return _torch_entries(_tensors(loaded), stem)


def _check_packing(path: Path) -> None:
    """A ``.pt`` is a zip of what is not compressed; torch would unpack one that is."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise ReadError(f"unpacks to {size / 1e6:.0f} MB from {path.stat().st_size} bytes")


def _tensors(loaded: dict[Any, Any]) -> dict[str, NDArray[np.float64]]:
    import torch

    arrays = {k: _array(k, v) for k, v in loaded.items() if k in _KEYS and isinstance(v, torch.Tensor)}
    missing = [k for k in ("frac_coords", "num_atoms", "atom_types") if k not in arrays]
    if missing or not ("lattices" in arrays or {"lengths", "angles"} <= set(arrays)):
        raise ReadError(f"no tensor {', '.join(missing) or 'lattices, nor lengths and angles'} in the file")
    crystals = arrays["num_atoms"].shape
    if more := [k for k, v in loaded.items() if k not in _KEYS and getattr(v, "shape", None) == crystals]:
        note(f"values of crystals that are not read from the tensors: {', '.join(map(str, more))[:200]}")
    return arrays


def _array(name: str, tensor: Any) -> NDArray[np.float64]:
    """A dense tensor's numbers, once it is known that there are no more than the file holds."""
    import torch

    if (
        tensor.layout != torch.strided
        or tensor.device.type != "cpu"
        or tensor.is_quantized
        or tensor.is_complex()
    ):
        kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
        raise ReadError(f"{name} is no dense tensor of numbers ({kind}, {tensor.device.type})")
    if name == "atom_types" and tensor.dtype == torch.bool and tensor.ndim < 2:
        raise ReadError("atom_types is true or false, which is no element")
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > max(held, _LARGEST):
        raise ReadError(f"{name} is declared as {tensor.numel()} numbers of which the file holds {held}")
    return np.asarray(tensor.detach().double().numpy())


def _torch_entries(arrays: dict[str, NDArray[np.float64]], stem: str) -> list[Entry]:
    num_atoms = _counts(arrays["num_atoms"])
    runs, batch = num_atoms.shape
    sites = int(num_atoms[0].sum()) if runs else 0
    if (num_atoms.sum(axis=1) != sites).any():
        raise ReadError("num_atoms is negative, or its evaluations disagree")
    types = arrays["atom_types"]
    if types.shape[:-1] in ((sites,), (runs, sites)) and types.shape != (runs, sites) and types.size:
        if types.shape[-1] not in _KINDS:
            raise ReadError(
                f"atom_types has scores of {types.shape[-1]} kinds, not of the first 100 elements (as in "
                "CDVAE) or of all 118: save atomic numbers"
            )
        best = types.max(axis=-1, keepdims=True)
        told = (types == best).sum(axis=-1) == 1  # neither NaN nor a tie
        types = np.where(told, types.argmax(axis=-1) + 1.0, np.nan)

    def shaped(array: NDArray[np.float64], *shape: int) -> NDArray[np.float64]:
        """Of this shape, which need not have the leading dimension of one evaluation."""
        if array.shape == shape or (runs == 1 and array.shape == shape[1:]):
            return array.reshape(shape)
        shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in sorted(arrays.items()))
        raise ReadError(f"num_atoms counts {batch} crystals with {sites} atoms; not so the others: {shapes}")

    coords = shaped(arrays["frac_coords"], runs, sites, 3)
    numbers = shaped(types, runs, sites)
    both = {"lengths", "angles"} <= set(arrays)
    if "lattices" in arrays:
        cells = shaped(arrays["lattices"], runs, batch, 3, 3)
    parameters = [shaped(arrays[k], runs, batch, 3) for k in ("lengths", "angles") if both]
    if both:
        check_degrees(parameters[1])

    def crystal(run: int, i: int, span: slice) -> RawCrystal:
        x = coords[run, span]
        if (np.abs(x) <= MAX_COORDINATE).all():  # wrapped, absurd ones would pass for sound
            x = (x - np.floor(x)) % 1.0
        if parameters:
            cell = cell_of(parameters[0][run, i], parameters[1][run, i])
        if "lattices" in arrays:
            if parameters and not same_shape(cells[run, i], cell):
                raise ReadError("the lattice contradicts the lengths and angles: which one holds?")
            cell = cells[run, i]
        return RawCrystal(elements(numbers[run, span]), x, cell)

    entries = []
    for run in range(runs):
        for i, (stop, count) in enumerate(zip(np.cumsum(num_atoms[run]), num_atoms[run], strict=True)):
            number = f"{i}" if runs == 1 else f"{run}-{i}"
            name = stem if runs * batch == 1 else f"{stem}-{number}"
            span = slice(stop - count, stop)
            entries.append(attempt(name, lambda run=run, i=i, span=span: crystal(run, i, span)))  # type: ignore[misc]
    return entries


def _counts(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(runs, batch) numbers of atoms."""
    counts = np.atleast_2d(values)
    if counts.ndim > 2:
        raise ReadError(f"num_atoms has the shape {values.shape}")
    if not (np.isfinite(counts).all() and (counts == np.floor(counts)).all()):
        raise ReadError("num_atoms has a number that is not whole")
    if (counts < 0).any() or (counts > 1e9).any():
        raise ReadError("num_atoms is negative, or beyond reason")
    return counts.astype(np.int64)
