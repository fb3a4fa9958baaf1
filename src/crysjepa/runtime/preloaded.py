"""What the server of worker processes imports once for all: the modules of ``$CRYSJEPA_PRELOAD``.

Imported by that server alone. A module that cannot be imported is for the worker that needs it to report.
"""

import contextlib
import importlib
import os

for name in os.environ.get("CRYSJEPA_PRELOAD", "").split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
