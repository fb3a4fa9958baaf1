import numpy as np
import pyarrow as pa
import pytest

from crysjepa.core.crystals import ARROW_SCHEMA, Crystals


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="frac_coords"):
        Crystals(np.array([1, 2]), np.zeros((1, 3)), np.eye(3)[None], np.array([2]), ("a",))
    with pytest.raises(ValueError, match="sum to"):
        Crystals(np.array([1, 2]), np.zeros((2, 3)), np.eye(3)[None], np.array([1]), ("a",))


def test_selection_keeps_sites_with_their_crystal(salts):
    chosen = salts.select(["SrTiO3", "LiF"])
    assert chosen.ids == ("SrTiO3", "LiF")
    assert chosen.num_atoms.tolist() == [5, 2]
    assert chosen.atomic_numbers.tolist() == [38, 22, 8, 8, 8, 3, 9]
    assert salts[np.array([False] * 7)].ids == () and salts.select([]).ids == ()
    assert Crystals.concatenate([salts[:3], salts[3:]]).content_hash() == salts.content_hash()


def test_an_integer_counts_from_either_end(salts):
    for i in range(len(salts)):
        assert salts[i].content_hash() == salts[[i]].content_hash()
        assert salts[i - len(salts)].content_hash() == salts[i].content_hash()
        assert salts[np.int64(i)].content_hash() == salts[i].content_hash()
    assert salts[-1].ids == ("SrTiO3",) and salts[-1].lattices.shape == (1, 3, 3)
    for outside in (len(salts), -len(salts) - 1):
        with pytest.raises(IndexError):
            salts[outside]
    with pytest.raises(IndexError):
        Crystals.empty()[0]


def test_iteration_gives_each_crystal_by_itself(salts):
    singles = list(salts)
    assert [c.ids for c in singles] == [(i,) for i in salts.ids]
    assert Crystals.concatenate(singles).content_hash() == salts.content_hash()
    before = salts.content_hash()
    for crystal in singles:
        for array in (crystal.atomic_numbers, crystal.frac_coords, crystal.lattices, crystal.num_atoms):
            array += 1
    assert salts.content_hash() == before


def test_unknown_id_raises(salts):
    with pytest.raises(KeyError):
        salts.select(["nobody"])


@pytest.mark.parametrize("there, back", [("to_structures", "from_structures"), ("to_atoms", "from_atoms")])
def test_round_trips_keep_the_crystal(salts, there, back):
    again = getattr(Crystals, back)(getattr(salts, there)(), salts.ids)
    np.testing.assert_array_equal(again.atomic_numbers, salts.atomic_numbers)
    np.testing.assert_allclose(again.frac_coords, salts.frac_coords, atol=1e-12)
    np.testing.assert_allclose(again.lattices, salts.lattices, atol=1e-12)


def test_arrow_round_trip_is_exact(salts):
    table = salts.to_arrow()
    assert table.schema.equals(ARROW_SCHEMA)
    assert Crystals.from_arrow(table).content_hash() == salts.content_hash()
    assert len(Crystals.from_arrow(table.slice(2, 3))) == 3
    assert Crystals.from_arrow(table.slice(2, 3)).content_hash() == salts[2:5].content_hash()


def test_arrow_of_another_kind_is_refused(salts):
    with pytest.raises(ValueError, match="lattice"):
        Crystals.from_arrow(salts.to_arrow().drop_columns(["lattice"]))
    holes = pa.concat_tables([salts.to_arrow(), pa.table({"id": ["x"]})], promote_options="default")
    with pytest.raises(ValueError, match="no structure"):
        Crystals.from_arrow(holes)


def test_chemistry(salts):
    assert salts.chemical_systems()[-1] == "O-Sr-Ti"
    assert [c.reduced_formula for c in salts.compositions()][:2] == ["NaCl", "KCl"]
    assert salts.volumes[0] == pytest.approx(5.64**3 / 4)


def test_partial_occupancy_is_refused():
    from pymatgen.core import Lattice, Structure

    alloy = Structure(Lattice.cubic(3), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partially occupied"):
        Crystals.from_structures([alloy])


def test_a_batch_of_none():
    assert len(Crystals.empty()) == 0
    assert len(Crystals.from_arrow(Crystals.empty().to_arrow())) == 0


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda s: s.replace(0, "X"), r"structure 1 \(.*\): 'X0\+' is not an element"),
        (lambda s: s.translate_sites([0], [np.nan, 0, 0]), "structure 1 .*: a coordinate or the lattice"),
        (lambda s: setattr(s, "lattice", s.lattice.__class__(np.eye(3) * 4, pbc=(True, True, False))),
         "structure 1 .*: not periodic in all three directions"),
    ],
)  # fmt: skip
def test_structures_that_are_no_crystals(salts, change, reason):
    good, bad = salts[:2].to_structures()
    change(bad)
    with pytest.raises(ValueError, match=reason):
        Crystals.from_structures([good, bad])


def test_oxidation_states_and_deuterium():
    from pymatgen.core import Element, Lattice, Species, Structure

    structure = Structure(Lattice.cubic(4), [Species("Fe", 3), Element("D")], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert Crystals.from_structures([structure]).atomic_numbers.tolist() == [26, 1]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda a: a.set_pbc([1, 1, 0]), "not periodic in all three directions"),
        (lambda a: a.set_cell([0, 0, 0]), "no unit cell"),
        (lambda a: a.set_cell(np.ones((3, 3))), "singular cell"),
        (lambda a: a.positions.__setitem__((0, 0), np.inf), "a coordinate or the lattice is not finite"),
        (lambda a: a.numbers.__setitem__(0, 0), "an atomic number is not that of an element"),
        (lambda a: a.info.update(occupancy={"0": {"Na": 0.5}}), "a site is partially occupied"),
        (lambda a: a.new_array("occupancies", np.array([1.0, 0.25])), "a site is partially occupied"),
    ],
)  # fmt: skip
def test_atoms_that_are_no_crystals(salts, change, reason):
    good, bad = salts[:2].to_atoms()
    change(bad)
    with pytest.raises(ValueError, match=rf"atoms 1 \(.*\): {reason}"):
        Crystals.from_atoms([good, bad])


def test_arrow_whose_lists_disagree_is_refused(salts):
    table = salts[:2].to_arrow()
    coords = [c.as_py() for c in table["frac_coords"]]
    moved = pa.array([coords[0][:-3], coords[1] + [0.0] * 3], pa.list_(pa.float64()))
    with pytest.raises(ValueError, match="disagree in row 0"):
        Crystals.from_arrow(table.set_column(2, "frac_coords", moved))
    for z in (11.5, 0, 300, None):
        numbers = pa.array([[z, 17], [19, 17]], pa.list_(pa.float64()))
        with pytest.raises(ValueError, match="atomic number"):
            Crystals.from_arrow(table.set_column(1, "atomic_numbers", numbers))
