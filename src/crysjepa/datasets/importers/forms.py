"""The formats of published data sets, by name."""

CSV = ("csv", "zip of csv")
MPTRJ = "MPtrj json"
ENTRIES = "computed structure entries (json.gz)"
LMDB = "gzipped LMDB"
DIAGRAM = "pickled phase diagram (pkl.gz)"
FORMATS = (*CSV, MPTRJ, ENTRIES, LMDB, DIAGRAM)
