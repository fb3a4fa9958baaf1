"""Files of a data set on the Hugging Face Hub: which there are, and the SHA-256 that the Hub states for each.

The Hub needs no client of its own: a listing is one answer in JSON, and a file is an ordinary download, which
:mod:`crysjepa.runtime.download` resumes and checks as it does any other. The listing is of one commit, and is
kept beside the files, so that nothing changes under a download and a second call needs no network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from crysjepa.datasets.registry import HubFolder, RemoteFile
from crysjepa.runtime.download import TIMEOUT, DatasetError
from crysjepa.runtime.files import read_json, write_json

ENDPOINT = "https://huggingface.co"


def hub_files(hub: HubFolder, listing: Path, endpoint: str | None = None) -> tuple[RemoteFile, ...]:
    """The Parquet files of a folder of the Hub, in the order of their names, each with its SHA-256.

    Parameters
    ----------
    listing
        Where the answer is kept; delete it to ask for a newer version.
    endpoint
        A mirror; by default ``$HF_ENDPOINT``, or the Hub itself.

    Raises
    ------
    DatasetError
        If the Hub cannot be reached, or has no such files.
    """
    if not listing.is_file():
        root = (endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        write_json(listing, _listed(hub, root))
    try:
        return tuple(RemoteFile(f["url"], f["checksum"]) for f in read_json(listing)["files"])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{listing} is no listing: delete it") from error


def _listed(hub: HubFolder, root: str) -> dict[str, Any]:
    api = f"{root}/api/datasets/{hub.repo}"
    commit = _answer(f"{api}/revision/{hub.revision}")[0].get("sha")
    if not isinstance(commit, str):
        raise DatasetError(f"{root} names no commit of {hub.repo}")
    folder, _, start = hub.prefix.rpartition("/")
    entries: list[Any] = []
    page: str | None = f"{api}/tree/{commit}/{folder}"
    while page:
        found, page = _answer(page)
        entries += found if isinstance(found, list) else []
    files = [
        {
            "url": f"{root}/datasets/{hub.repo}/resolve/{commit}/{entry['path']}",
            "checksum": f"sha256:{entry['lfs']['oid']}" if entry.get("lfs") else None,
        }
        for entry in sorted(entries, key=lambda e: str(e.get("path")))
        if str(entry.get("path")).startswith(f"{folder}/{start}") and entry["path"].endswith(".parquet")
    ]
    if not files:
        names = ", ".join(sorted({str(e.get("path")) for e in entries})[:8]) or "nothing"
        raise DatasetError(f"{hub.repo} has no files {hub.prefix}*.parquet; there is {names}")
    return {"repo": hub.repo, "commit": commit, "files": files}


def _answer(url: str) -> tuple[Any, str | None]:
    """An answer in JSON, and where the next page of it is."""
    import requests

    try:
        response = requests.get(url, timeout=TIMEOUT)
        response.raise_for_status()
        return response.json(), response.links.get("next", {}).get("url")
    except requests.exceptions.HTTPError as error:
        raise DatasetError(f"the server refused {url}: {error}") from error
    except ValueError as error:
        raise DatasetError(f"{url} sent no JSON: {error}") from error
    except requests.exceptions.RequestException as error:
        raise DatasetError(f"cannot reach {url}: is there a network? ({type(error).__name__})") from error
