"""The formats of published data sets, by name."""

CSV = ("csv", "zip of csv")
MPTRJ = "MPtrj json"
ENTRIES = "computed structure entries (json.gz)"
LMDB = "gzipped LMDB"
DIAGRAM = "pickled phase diagram (pkl.gz)"
LEMAT = "LeMat Parquet"
LEMAT_HULL = "LeMat hull Parquet"
FORMATS = (*CSV, MPTRJ, ENTRIES, LMDB, DIAGRAM, LEMAT, LEMAT_HULL)
WITHOUT_CRYSTALS = (DIAGRAM, LEMAT_HULL)
"""Compositions and energies alone."""
