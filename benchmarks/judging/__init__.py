"""Parts of ``evaluation.py``: what crysjepa judges by, side by side with the plain way of doing it."""
