"""The paper's experiments from one end to the other: ``crysjepa reproduce``."""
