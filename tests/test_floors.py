"""The plan of the house: a module imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

import crysjepa

ROOT = Path(crysjepa.__file__).parent
FLOORS = [
    [
        "__init__",
        "_bundle",
        "_notes",
        "_download",
        "compiled",
        "crystals",
        "lattice",
        "nn.parallel",
        "nn.transformer",
        "nn.checkpoint",
        "nn.expansion",
        "weights",
    ],
    ["chemical_systems", "nn.torch_geometry", "symmetry"],
    ["nn.geometry", "_cif_text"],
    ["_moments", "_cif_operations", "_cif_elements"],
    ["_cif_names", "_cif_sites"],
    ["_cif_symmetry"],
    [
        "candidates",
        "canonical",
        "nn.batches",
        "_cif",
        "jepa.augment",
        "jepa.distances",
        "jepa.losses",
        "jepa.readouts",
        "jepa.embeddings",
        "jepa.invariant",
        "generate.constraints",
        "generate.ddpm",
    ],
    ["generate.orbits"],
    ["generate.orbit_batches", "generate.templates"],
    ["nn.training", "energy", "jepa.model", "generate.denoiser", "generate.flow_network"],
    ["jepa.objectives", "generate.flow"],
    ["io", "jepa.pretrain", "generate.base", "relax", "run"],
    ["imports", "screen", "generate.diffusion", "jepa.maps", "jepa.redescribe"],
    ["report", "jepa.diagnostics", "generate.similarity", "generate.volumes", "generate.parents"],
    ["datasets", "generate.proposals", "generate.drawing", "generate.flow_generator"],
    ["chunks", "compete", "generate.files", "generate.substitution"],
    ["evaluate", "generate.registry"],
    ["discover", "sense", "_verbs"],
    ["train", "diagnose", "screening", "evaluating", "generating", "dft"],
    ["api", "console"],
    ["cli_convert", "cli_dft", "cli_trust"],
    ["cli"],
    ["__main__"],
]


def floor_of(module: str) -> tuple[int, str]:
    for number, names in enumerate(FLOORS):
        for name in names:
            if module == name or module.startswith(name + "."):
                return number, name
    raise AssertionError(f"{module} has no floor: add it to the plan")


def imports_at_load(path: Path) -> set[str]:
    """Modules of ours that are imported when the module is loaded (not inside functions, not for types)."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("crysjepa"):
            base = node.module.removeprefix("crysjepa").removeprefix(".")
            found |= {base} if base and base not in ("nn", "generate", "jepa") else set()
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                as_path = ROOT / (inner.replace(".", "/") + ".py")
                if as_path.exists() or (ROOT / inner).is_dir():
                    found.add(inner)
    return found


FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent.name == "weights")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    floor, room = floor_of(module)
    for imported in imports_at_load(path):
        below, other = floor_of(imported)
        assert below < floor or other == room, f"{module} (floor {floor}) imports {imported} (floor {below})"


def test_no_room_for_leftovers():
    names = {p.stem for p in FILES}
    assert not names & {"utils", "common", "helpers", "misc"}
