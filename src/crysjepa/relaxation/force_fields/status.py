"""Which force fields work here."""

from __future__ import annotations

import importlib
import warnings

from crysjepa.relaxation.force_fields.entries import ENTRIES
from crysjepa.relaxation.force_fields.registry import (
    force_field_info,
    get_force_field,
    python_of,
    quietly,
    require_installed,
)
from crysjepa.relaxation.force_fields.self_test import probe
from crysjepa.runtime.errors import describe_error


def force_field_status() -> list[tuple[str, bool, str]]:
    """For every known name: does it work here, and what there is to say. Nothing is downloaded."""
    return [(name, *_status(name)) for name in ENTRIES]


def _status(name: str) -> tuple[bool, str]:
    entry = ENTRIES[name]
    try:
        require_installed(name)
        python = python_of(name)
        if python is not None and entry.file is not None:
            return True, f"{force_field_info(name).version}, by {python}; weights are fetched on first use"
        if entry.file is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its dependencies; whether it loads is what is asked
                quietly(importlib.import_module, entry.module)
            return True, f"{force_field_info(name).version}; its weights are fetched on first use"
        trouble = probe(get_force_field(name))
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything; it is reported
        return False, str(error) if isinstance(error, ImportError) else describe_error(error)
    where = f", by {python}" if python is not None else ""
    return (False, trouble) if trouble else (True, force_field_info(name).version + where)
