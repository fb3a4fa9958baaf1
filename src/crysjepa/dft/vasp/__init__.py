"""VASP inputs out, results in."""
