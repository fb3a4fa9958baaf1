"""Which crystals are the same: StructureMatcher on reduced crystals, hashes, prototypes."""
