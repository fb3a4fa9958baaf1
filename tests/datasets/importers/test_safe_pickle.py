"""The one reader of pickles: what it gives, and that no pickle makes it do anything."""

import collections
import gzip
import json
import os
import pickle
import pickletools
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from monty.json import MontyEncoder
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram
from pymatgen.core import Composition, Element
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedEntry

from crysjepa.datasets.importers import safe_pickle
from crysjepa.datasets.importers.phase_diagrams import import_phase_diagram
from crysjepa.datasets.importers.safe_pickle import UnsafePickle, read_pickle

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """An object that pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


# -- what it gives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values(protocol):
    value = {
        "numbers": [1, -2.5, True, None, 10**30], "text": "Å", "bytes": b"\0" if protocol > 2 else "",
        "tuple": (1, (2,)), "nested": {"a": {"b": []}}, "set": {1, 2} if protocol > 3 else set(),
    }  # fmt: skip
    if protocol < 4:
        del value["set"]  # those protocols name builtins by another module
    assert read_pickle(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i4", "u1", "?", ">f8"])
def test_numbers_of_numpy(dtype):
    array = np.array([[1, 0, 3], [4, 5, 6]], dtype=dtype)
    for protocol in (4, 5):
        for given in (array, np.asfortranarray(array), array[:, ::2]):
            found = read_pickle(pickle.dumps(given, protocol=protocol))
            assert found.tolist() == given.tolist()
        number = read_pickle(pickle.dumps(array[1, 2], protocol=protocol))
        assert type(number) in (int, float, bool) and number == array[1, 2]


def test_objects_of_pymatgen_become_what_they_say():
    entry = read_pickle(pickle.dumps(ComputedEntry("Fe2O3", -40.0, entry_id="mp-1", data={"a": [1]})))
    assert type(entry) is safe_pickle.Entry
    assert entry.get("entry_id") == "mp-1" and entry.get("_energy", "energy") == -40.0
    amounts = entry.get("_composition").get("_data")
    assert {element.args[0]: n for element, n in amounts.items()} == {"Fe": 2.0, "O": 3.0}
    assert type(read_pickle(pickle.dumps(Composition("LiCl")))) is safe_pickle.Composition
    assert read_pickle(pickle.dumps([Element("Li")] * 2))[1].args == ("Li",)


def test_default_dictionaries_forget_their_default():
    given = collections.defaultdict(list, a=[1])
    found = read_pickle(pickle.dumps(given))
    assert found == {"a": [1]} and "b" not in found
    with pytest.raises(KeyError):
        found["b"]


# -- what it refuses -----------------------------------------------------------------------------------

MARK = Path("was_here")
HARM = {
    "os.system": Calls(os.system, f"touch {MARK}"),
    "subprocess": Calls(subprocess.check_call, ["touch", str(MARK)]),
    "eval": Calls(eval, f"open({str(MARK)!r}, 'w')"),
    "exec": Calls(exec, f"open({str(MARK)!r}, 'w')"),
    "open": Calls(open, str(MARK), "w"),
    "getattr": Calls(getattr, dict, "fromkeys"),
    "import": Calls(__import__, "os"),
    "a chain": [Calls(getattr, Calls(__import__, "os"), "system")],
    "in a dictionary": {"energy": -1.0, "structure": {"sites": [Calls(os.system, f"touch {MARK}")]}},
    "as an argument": Calls(set, Calls(os.listdir, ".")),
    "partial": Calls(__import__("functools").partial, os.system, f"touch {MARK}"),
    "an array of objects": np.array([Calls(os.system, f"touch {MARK}")], dtype=object),
    "a path": Path("somewhere"),
    "a function": len,
    "a class": dict,
    "load": Calls(pickle.loads, pickle.dumps(1)),
    "numpy.load": Calls(np.load, "x", None, True),
}


@pytest.mark.parametrize("protocol", [0, *PROTOCOLS])
@pytest.mark.parametrize("harm", HARM)
def test_harm_is_refused(harm, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(HARM[harm], protocol=protocol)
    with pytest.raises(UnsafePickle):
        read_pickle(data)
    assert not list(tmp_path.iterdir())


def test_the_message_names_what_was_asked_for():
    with pytest.raises(UnsafePickle, match=r"the pickle names posix\.system, which is not one of the few"):
        read_pickle(pickle.dumps(Calls(os.system, "true"), protocol=4))


def text(value):
    return b"\x8c" + bytes([len(value)]) + value


def named(module, name):
    """The operations that push what find_class says of a name."""
    return text(module) + text(name) + b"\x93"


COMPOSITION = named(b"pymatgen.core.composition", b"Composition")
SCALAR = named(b"numpy._core.multiarray", b"scalar")
DTYPE = named(b"numpy", b"dtype")
BY_HAND = {
    "an attribute by a dotted name": named(b"collections", b"OrderedDict.__init__.__globals__"),
    "an attribute of a stand-in": named(b"pymatgen.core.composition", b"Composition.__init__.__globals__"),
    "the state of a class": COMPOSITION + b"}" + text(b"__setstate__") + b"Ns" + b"b",
    "attributes of a class": COMPOSITION + b"N}" + text(b"get") + b"Ns" + b"\x86" + b"b",
    "attributes of scalar": SCALAR + b"N}" + text(b"__new__") + b"Ns" + b"\x86" + b"b",
    "attributes of set": named(b"builtins", b"set") + b"N}" + text(b"add") + b"Ns" + b"\x86" + b"b",
    "a scalar of an object": SCALAR + DTYPE + text(b"O8") + b"\x89\x88\x87R" + text(b"x") + b"\x86R",
    "a scalar of nothing": SCALAR + b"N" + b"C\x04abcd" + b"\x86R",
    "a scalar of too little": SCALAR + DTYPE + text(b"f8") + b"\x89\x88\x87R" + b"C\x04abcd" + b"\x86R",
    "a persistent id": b"K\x01Q",
    "an extension": b"\x82\x01",
    "a buffer": b"\x97",
    "INST": b"(iposix\nsystem\n",
    "GLOBAL": b"cos\nsystem\n",
    "a call of what is no callable": b"K\x01)R",
    "an item of an object": COMPOSITION + b")\x81" + b"K\x01K\x02s",
    "an object without a class": b"K\x01)\x81",
    "nonsense": b"\xff\xff",
    "nothing": b"",
    "no end": b"]",
}


@pytest.mark.parametrize("case", BY_HAND)
def test_programmes_written_by_hand(case):
    before = {name: dict(vars(kind)) for name, kind in vars(safe_pickle).items() if isinstance(kind, type)}
    with pytest.raises(UnsafePickle):
        read_pickle(b"\x80\x05" + BY_HAND[case] + (b"." if case not in ("nothing", "no end") else b""))
    after = {name: dict(vars(kind)) for name, kind in vars(safe_pickle).items() if isinstance(kind, type)}
    assert before == after


def test_a_pickle_that_is_cut_off():
    data = pickle.dumps({"energy": [1.0] * 100})
    for end in range(0, len(data), 7):
        with pytest.raises(UnsafePickle):
            read_pickle(data[:end])


def test_arrays_of_other_things_are_not_decoded():
    """An array is only bytes until it is asked for; bytes of objects stay bytes."""
    asked = named(b"numpy._core.numeric", b"_frombuffer") + b"(" + b"C\x08" + b"\0" * 8
    asked += DTYPE + text(b"O8") + b"\x89\x88\x87R" + b"K\x01\x85" + text(b"C") + b"tR."
    found = read_pickle(b"\x80\x05" + asked)
    with pytest.raises(UnsafePickle, match="not of numbers"):
        found.tolist()


def test_nothing_on_the_list_is_code_of_another_library():
    for (module, name), kind in safe_pickle.ALLOWED.items():
        own = kind.__module__ == "crysjepa.datasets.importers.safe_pickle"
        assert own or kind in (set, frozenset, list, collections.OrderedDict), f"{module}.{name}"


def test_pickles_of_the_present_pymatgen_name_nothing_unknown():
    entry = ComputedEntry("Fe2O3", -40.0)
    operations = {operation.name for operation, _, _ in pickletools.genops(pickle.dumps(entry))}
    assert "STACK_GLOBAL" in operations and read_pickle(pickle.dumps(entry)) is not None


@pytest.mark.parametrize("through_json", [False, True])
def test_a_phase_diagram_of_todays_pymatgen_is_read(tmp_path, through_json):
    entries = [
        ComputedEntry(
            formula, energy * atoms, parameters={"run_type": "GGA", "hubbards": {}}, entry_id=formula
        )
        for formula, energy, atoms in (("Mg2", -1.6, 2), ("O2", -4.95, 2), ("MgO", -5.9, 2))
    ]
    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there are no structures, from pymatgen
        done = scheme.process_entries(entries, clean=True, inplace=False)
    if through_json:
        done = [ComputedEntry.from_dict(json.loads(json.dumps(e.as_dict(), cls=MontyEncoder))) for e in done]
    with gzip.open(tmp_path / "ppd.pkl.gz", "wb") as file:
        pickle.dump(PatchedPhaseDiagram(done), file)
    import_phase_diagram(tmp_path / "ppd.pkl.gz", tmp_path / "ppd.parquet", {})
    rows = {r["id"]: r["energy_per_atom"] for r in pq.read_table(tmp_path / "ppd.parquet").to_pylist()}
    assert rows == {e.entry_id: pytest.approx(e.energy_per_atom) for e in done}
    assert rows["MgO"] < -6.2, "with its correction"
