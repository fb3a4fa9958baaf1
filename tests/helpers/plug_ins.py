"""A package with generators, as pip would install it: a module, and metadata with its entry points."""

MODULE = '''
import json

import numpy as np
from pymatgen.core import Lattice, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Samples

METALS, ANIONS = ["Li", "Na", "K", "Mg", "Ca"], ["F", "Cl", "Br", "O", "S"]


class Fixed:
    """Rock salts of random elements, which learns nothing."""

    def __init__(self, options):
        self.options, self.metals = options, {m: 1 for m in METALS}

    def sample(self, num, *, seed=0, device="cpu", prefix="gen", progress=None):
        random = np.random.default_rng(seed)
        weights = np.array(list(self.metals.values()), dtype=float)
        salts = [
            Structure.from_spacegroup(
                "Fm-3m",
                Lattice.cubic(random.uniform(4.5, 6)),
                [str(random.choice(METALS, p=weights / weights.sum())), str(random.choice(ANIONS))],
                [[0, 0, 0], [0.5, 0.5, 0.5]],
            ).get_primitive_structure()
            for _ in range(num)
        ]
        return Samples(Crystals.from_structures(salts, [f"{prefix}-{i}" for i in range(num)]), {})


class Learning(Fixed):
    """The same, whose metals become as frequent as they were chosen."""

    def finetune(self, crystals, settings, *, seed=0, device="cpu", state=None, progress=None):
        learnt = Learning(None)
        learnt.metals = dict(self.metals)
        for system in crystals.chemical_systems():
            for element in set(system.split("-")) & set(METALS):
                learnt.metals[element] += 1
        return learnt

    def save(self, path):
        path.write_text(json.dumps(self.metals))

    def load(self, path):
        loaded = Learning(None)
        loaded.metals = json.loads(path.read_text())
        return loaded


class Misnaming(Learning):
    def save(self, path):
        path.with_suffix(".npz").write_text("{}")
'''
NAMES = {"fixed": "Fixed", "learning": "Learning", "misnaming": "Misnaming"}


def install(folder, version="1.0"):
    """Write the package into ``folder``, to be put on ``sys.path``."""
    (folder / "salt_generators.py").write_text(MODULE)
    about = folder / f"salt_generators-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: salt-generators\nVersion: {version}\n")
    lines = [f"{name} = salt_generators:{what}" for name, what in NAMES.items()]
    (about / "entry_points.txt").write_text("\n".join(["[crysjepa.generators]", *lines, ""]))
