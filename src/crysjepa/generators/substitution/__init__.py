"""Known crystals with some of their elements swapped for similar ones."""
