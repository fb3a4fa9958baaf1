"""From the files that publishers of data sets give out to our own Parquet: once, in bounded memory.

``convert`` is the way in. ``parquet`` streams rows of any format into a file; ``csv_files``, ``json_files``,
``lmdb_files`` and ``phase_diagrams`` know a format each; ``structures`` reads one crystal;
``pickles`` is the one place in crysjepa that opens a pickle, and says why it may.
"""
