from hypothesis import given
from hypothesis import strategies as st

from crysjepa import datasets
from crysjepa.screen.systems import ReferenceCounts, by_system, subsystems, system_names, within


def test_subsystems_are_the_power_set():
    assert set(subsystems("A-B-C")) == {"A", "B", "C", "A-B", "A-C", "B-C", "A-B-C"}
    assert list(subsystems("Na-Cl", 1)) == ["Cl", "Na"]


@given(known=st.sets(st.sets(st.sampled_from("ABCDEF"), min_size=1).map(lambda s: "-".join(sorted(s)))))
def test_within_finds_the_same_by_either_way(known):
    named = dict.fromkeys(sorted(known), 1)
    for system in ("A", "A-B", "A-B-C-D", "A-B-C-D-E-F"):
        assert set(within(system, named)) == {s for s in known if set(s.split("-")) <= set(system.split("-"))}


def test_groups_are_what_pymatgen_says():
    crystals = datasets.load("flla").crystals()[::40]
    assert system_names(crystals) == crystals.chemical_systems()
    groups = by_system(crystals)
    assert sorted(r for g in groups for r in g.rows.tolist()) == list(range(len(crystals)))
    assert [g.name for g in groups] == sorted({g.name for g in groups})
    compositions = crystals.compositions()
    for group in groups:
        for row, fractions in zip(group.rows.tolist(), group.fractions, strict=True):
            wanted = [compositions[row].get_atomic_fraction(e) for e in group.elements]
            assert abs(fractions - wanted).max() < 1e-12


def test_counts(salts):
    counts = ReferenceCounts.of(salts)
    assert counts.num_references("Cl-K") == 1 and counts.num_references("Br-Cl-K-Na") == 3
    assert counts.num_references("Fe") == 0 == ReferenceCounts.of(salts[:0]).num_references("K")
