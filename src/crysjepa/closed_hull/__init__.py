"""The closed hull: competing phases of a chemical system searched for, not only looked up."""
