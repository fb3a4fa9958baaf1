"""``python -m crysjepa``: the command line."""

from crysjepa.cli import app

app()
