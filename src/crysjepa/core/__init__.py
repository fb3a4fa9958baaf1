"""What a crystal is: batches and tables of crystals, one canonical description, symmetry, validity."""
