"""Reading a pickle without running it: numbers, text, lists and a few inert stand-ins come out, or an error.

crysjepa opens no pickles. This file is the one exception, because two published sets exist in no other form:
MatterGen's reference (an LMDB of pickled dictionaries) and Matbench Discovery's phase diagram. They are
downloaded under a published checksum, converted once, and never opened again.

Why it is safe. A pickle is a programme for a small machine, which can do harm in one way only: by naming a
callable of this Python (GLOBAL, STACK_GLOBAL, INST, EXT) and having it called (REDUCE, OBJ, NEWOBJ, BUILD).
Every name goes through :meth:`_Reader.find_class`, which imports nothing and looks nothing up by name:
it answers from a fixed list, and refuses all else. On that list are

- ``set``, ``frozenset``, ``list`` and ``OrderedDict``, whose constructors run no code of the file's, and a
  ``defaultdict`` that has forgotten its default;
- pymatgen's classes, each answered by a :class:`Known`, which keeps the arguments and the state it is given
  and has no other behaviour: the real classes are never imported;
- the functions that numpy pickles numbers and arrays with, answered by classes of this file that decode the
  bytes of plain numbers themselves. numpy's own are never called: they build arrays of any type, of objects
  too.

These stand-ins are classes whose attributes cannot be set, so that BUILD cannot turn one into something
else. Persistent ids, out-of-band buffers and extension codes are refused. What is left to a malicious file
is to ask for much memory; a pickle cannot be read in pieces, and the checksum stands before it.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections import OrderedDict
from typing import Any, BinaryIO, NoReturn

import numpy as np


class UnsafePickle(ValueError):
    """The pickle asks for something that is not on the list, or is damaged; the message says what."""


class _Fixed(type):
    """Classes whose attributes cannot be set or deleted."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise UnsafePickle(f"the pickle sets {name} of a class")

    def __delattr__(cls, name: str) -> NoReturn:
        raise UnsafePickle(f"the pickle deletes {name} of a class")


class Known(metaclass=_Fixed):
    """What the pickle says of an object of pymatgen's: ``args`` of its constructor, and its ``state``."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **named: Any) -> Known:
        made = super().__new__(cls)
        made.args, made.state = args, named
        return made

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        self.state = {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these attributes that the state has."""
        return next((self.state[n] for n in names if n in self.state), default)


class Composition(Known):
    """pymatgen.core.composition.Composition"""

    __slots__ = ()


class Element(Known):
    """pymatgen.core.periodic_table.Element; its argument is the symbol."""

    __slots__ = ()


class Entry(Known):
    """PDEntry, ComputedEntry or ComputedStructureEntry."""

    __slots__ = ()


class Adjustment(Known):
    """An energy adjustment of pymatgen.entries.computed_entries."""

    __slots__ = ()


class Diagram(Known):
    """PhaseDiagram or PatchedPhaseDiagram."""

    __slots__ = ()


class Dropped(Known):
    """A known class of which nothing is needed: its state is not kept."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        self.state = {}


class _Defaults(dict[Any, Any], metaclass=_Fixed):
    """``collections.defaultdict`` without the defaults: its factory is not kept, and never called."""

    __slots__ = ()

    def __init__(self, factory: Any = None) -> None:
        super().__init__()


class Scalar(Known):
    """ruamel.yaml's float that remembers how it was written; its argument is the number."""

    __slots__ = ()

    def __float__(self) -> float:
        number = self.args[0] if self.args else None
        if not isinstance(number, float):
            raise UnsafePickle("a number that is none")
        return number


class _Dtype(Known):
    """``numpy.dtype("f8", False, True)`` and its state, whose second value is the byte order."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        self.state = {"order": order if order in ("<", ">") else "="}

    def real(self) -> np.dtype[Any]:
        """The type of numpy. Raises UnsafePickle unless it is a plain number."""
        name = self.args[0] if self.args else None
        if name not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"):
            raise UnsafePickle(f"an array of {name!r}, not of numbers")
        return np.dtype(name).newbyteorder(self.state.get("order", "="))


class Array(Known):
    """numpy's ``_reconstruct(ndarray, ...)``, or ``_frombuffer(bytes, dtype, shape, order)``."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        self.state = {"array": state}

    def tolist(self) -> Any:
        """Nested lists of numbers. Raises UnsafePickle for an array of anything else."""
        if "array" in self.state:
            _, shape, dtype, fortran, data = self.state["array"]
        else:
            data, dtype, shape, fortran = (*self.args[:3], self.args[3] == "F")
        if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
            raise UnsafePickle("an array of objects, not of numbers")
        return np.frombuffer(data, dtype.real()).reshape(shape, order="F" if fortran else "C").tolist()


class _NdArray(Known):
    """The class ``numpy.ndarray``, which is only ever an argument."""

    __slots__ = ()


class _Scalar(metaclass=_Fixed):
    """``numpy.core.multiarray.scalar(dtype, bytes)``: a plain number at once."""

    def __new__(cls, dtype: Any, data: Any = b"") -> Any:
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise UnsafePickle("a scalar of numpy that is not a number")
        return np.frombuffer(data, dtype.real()).item()


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PERIODIC = ("pymatgen.core.periodic_table", "pymatgen.core.composition", "pymatgen.core")
_COMPUTED = ("pymatgen.entries.computed_entries", "pymatgen.core.entries")  # before 2026, and since
_ENTRIES = (*_COMPUTED, "pymatgen.analysis.phase_diagram")

ALLOWED: dict[tuple[str, str], type] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "list"): list,
    ("collections", "defaultdict"): _Defaults,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdArray,
    **{(module, "_reconstruct"): Array for module in _MULTIARRAY},
    **{(module, "scalar"): _Scalar for module in _MULTIARRAY},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Array for core in ("core", "_core")},
    **{(module, "Element"): Element for module in _PERIODIC},
    **{(module, name): Dropped for module in _PERIODIC for name in ("Species", "DummySpecies")},
    **{(module, "Composition"): Composition for module in _PERIODIC},
    **{
        (module, name): Entry
        for module in _ENTRIES
        for name in ("PDEntry", "ComputedEntry", "ComputedStructureEntry")
    },
    **{
        (module, name): Adjustment
        for module in _COMPUTED
        for name in (
            "EnergyAdjustment", "ConstantEnergyAdjustment", "ManualEnergyAdjustment",
            "CompositionEnergyAdjustment", "TemperatureEnergyAdjustment",
        )
    },
    **{
        ("pymatgen.analysis.phase_diagram", name): Diagram
        for name in ("PhaseDiagram", "PatchedPhaseDiagram")
    },
    ("ruamel.yaml.scalarfloat", "ScalarFloat"): Scalar,
    **{
        (f"pymatgen.{part}.compatibility", name): Dropped
        for part in ("entries", "analysis")
        for name in ("MaterialsProject2020Compatibility", "MaterialsProjectCompatibility")
    },
    ("pymatgen.util.coord", "Simplex"): Dropped,
    ("pymatgen.core.structure", "Structure"): Dropped,
    ("pymatgen.core.sites", "PeriodicSite"): Dropped,
    ("pymatgen.core.lattice", "Lattice"): Dropped,
}  # fmt: skip


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names in the list above and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; nothing is imported."""
        try:
            return ALLOWED[(module, name)]
        except KeyError:
            raise UnsafePickle(
                f"the pickle names {module}.{name}, which is not one of the few things that crysjepa reads "
                "from a pickle: write its entries as JSON instead (monty.serialization.dumpfn(entries, FILE))"
            ) from None

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refused."""
        raise UnsafePickle("the pickle refers to an object outside itself")


def read_pickle(source: bytes | BinaryIO) -> Any:
    """What a pickle says, in numbers, text, ``dict``, ``list``, ``tuple``, sets and :class:`Known` objects.

    Raises
    ------
    UnsafePickle
        If it names anything else, or is damaged.
    """
    handle = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return _Reader(handle).load()
    except UnsafePickle:
        raise
    except (EOFError, OSError, zlib.error) as error:
        raise UnsafePickle(f"the pickle is cut off or damaged: {error}") from error
    except Exception as error:  # the machine of pickles raises anything for a programme that makes no sense
        raise UnsafePickle(f"the pickle makes no sense: {type(error).__name__}: {error}") from error
