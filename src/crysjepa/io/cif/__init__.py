"""CIF data blocks to arrays; gemmi parses."""
