"""What a force field is, force fields by name, and an adapter for each library."""
