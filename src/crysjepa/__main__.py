"""``python -m crysjepa``: the command line."""

from crysjepa.cli.main import app

app()
