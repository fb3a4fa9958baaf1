"""How worker processes begin, and that they end with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from typing import Any

from crysjepa.runtime.threads import ONE_THREAD

FORKED = sys.platform == "linux"
"""Whether workers are forked from a server process of one thread. Elsewhere that is not safe."""
_PRELOAD = "CRYSJEPA_PRELOAD"
_HIDING = threading.RLock()


@contextlib.contextmanager
def main_hidden(*sent: Any) -> Iterator[None]:
    """Processes spawned here do not import the script that is running, which would run it anew in each.

    Unless what is ``sent`` to them is defined in that script: then they need it.
    """
    main = sys.modules.get("__main__")
    with _HIDING:
        if main is None or b"__main__" in pickle.dumps(sent):
            yield
            return
        file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
        main.__spec__ = None
        if file is not None:
            del main.__file__
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not None:
                main.__file__ = file


def context(preload: Sequence[str]) -> Any:
    """How workers are started: from the server, which is started if there is none yet, or each anew.

    Libraries have one thread in the server, and so in its workers, whatever their environment asks for.
    """
    if FORKED:
        ours = multiprocessing.get_context("forkserver")
        ours.set_forkserver_preload(["crysjepa.runtime.preloaded"])
        # the script that runs is for the workers that need it, not for the server
        modules = " ".join(m for m in preload if m != "__main__")
        with contextlib.suppress(OSError), environment_of({**ONE_THREAD, _PRELOAD: modules}):
            forkserver.ensure_running()  # it cannot where the folder of its socket has a long name
            return ours
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Children started here inherit ``variables``; multiprocessing has no other way to pass them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Called in a worker: end it when its parent does, however that ends, rather than finish its task."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
