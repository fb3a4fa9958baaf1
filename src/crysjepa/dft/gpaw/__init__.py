"""DFT on this machine, without VASP."""
