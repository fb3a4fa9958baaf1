"""Download one file: resumable, whole and verified. pooch checks and moves it; the transfer is here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crysjepa.runtime.files import write_text
from crysjepa.runtime.progress import Progress

CHUNK = 1 << 16
"""Bytes; at most so much of what came is lost when a transfer breaks off."""
TIMEOUT = (20, 60)
"""Seconds to wait for a connection, and for the next bytes."""


class DatasetError(ValueError):
    """A dataset that is unknown, out of reach, or not what was published; the message says what to do."""


def fetch_file(url: str, checksum: str | None, path: Path, progress: Progress | None = None) -> Path:
    """``path``, downloaded from ``url`` if it is not there, its checksum verified.

    Without ``checksum`` the one recorded beside the file at its first sight is used. A file that is there and
    is not the expected one is never overwritten.

    Raises
    ------
    DatasetError
        If it cannot be had, or is not the expected file.
    """
    import pooch

    expected = checksum or _recorded(path)
    if path.exists():
        if expected is None:
            _record(path)
        elif not _matches(path, expected):
            raise DatasetError(
                f"{path} is not the expected file ({_digest(path, expected)}, expected {expected}). "
                "Delete it to download it again"
            )
        return path
    downloader = _Resuming(path.with_name(f"{path.name}.partial"), expected is not None, progress)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, known_hash=expected, fname=path.name, path=path.parent, downloader=downloader)
    except DatasetError as error:
        raise DatasetError(f"{error}. Or put the file by hand at {path}") from error
    except ValueError as error:  # pooch's word for a wrong hash; it has deleted what came
        raise DatasetError(
            f"what {url} sent is not {path.name} ({expected}): it was discarded. The publisher may have "
            f"changed the file, or sent an error page; put the right one at {path}"
        ) from error
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error}") from error
    if checksum is None:
        _record(path)
    return path


class _Resuming:
    """A pooch downloader that keeps what came in ``partial`` and asks for the rest the next time.

    Without a known checksum a partial file is continued only if the server says that it is still the same
    file (its ETag or date, kept beside the partial one), or the halves could be of different versions.
    """

    def __init__(self, partial: Path, verified_later: bool, progress: Progress | None) -> None:
        self.partial = partial
        self.validator = partial.with_name(f"{partial.name}.tag")
        self.verified_later = verified_later
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Download ``url`` to ``output_file``, by way of the partial file."""
        import requests

        self.partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._transfer(url)
        except requests.exceptions.HTTPError as error:
            raise DatasetError(f"the server refused {url}: {error}") from error
        except requests.exceptions.RequestException as error:
            came = self.partial.stat().st_size if self.partial.exists() else 0
            if came or isinstance(error, requests.exceptions.ChunkedEncodingError):
                raise DatasetError(
                    f"the transfer from {url} broke off; {came} bytes are kept: run it again to go on"
                ) from error
            raise DatasetError(f"cannot reach {url}: is there a network? ({type(error).__name__})") from error
        self.partial.replace(output_file)
        self.validator.unlink(missing_ok=True)

    def _transfer(self, url: str) -> None:
        import requests

        have, headers = self._resume_from()
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                self.partial.unlink()
                response.close()
                return self._transfer(url)
            response.raise_for_status()
            start = have if response.status_code == requests.codes.partial_content else 0
            if start and not response.headers.get("Content-Range", f"bytes {start}-").startswith(
                f"bytes {start}-"
            ):
                raise requests.exceptions.ContentDecodingError("the server sent another part than asked for")
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            self.validator.write_text(tag, encoding="utf-8")
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else 0
            done = self._write(response, start, total)
        if total and done != total:
            raise requests.exceptions.ConnectionError(f"{done} of {total} bytes")
        return None

    def _resume_from(self) -> tuple[int, dict[str, str]]:
        headers = {"Accept-Encoding": "identity"}  # a compressed transfer could not be counted, nor resumed
        have = self.partial.stat().st_size if self.partial.exists() else 0
        tag = self.validator.read_text(encoding="utf-8") if self.validator.exists() else ""
        usable = tag and not tag.startswith("W/")
        if have and (usable or self.verified_later):
            headers["Range"] = f"bytes={have}-"
            if usable:
                headers["If-Range"] = tag
            return have, headers
        return 0, headers

    def _write(self, response: Any, start: int, total: int) -> int:
        done = start
        with self.partial.open("ab" if start else "wb") as handle:
            for block in response.iter_content(CHUNK):
                handle.write(block)
                done += len(block)
                if self.progress:
                    self.progress(done, total)
        return done


def _algorithm(checksum: str) -> str:
    return checksum.split(":", 1)[0] if ":" in checksum else "sha256"


def _digest(path: Path, like: str) -> str:
    import pooch

    return f"{_algorithm(like)}:{pooch.file_hash(str(path), alg=_algorithm(like))}"


def _matches(path: Path, expected: str) -> bool:
    return _digest(path, expected) == (expected if ":" in expected else f"sha256:{expected}")


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str | None:
    record = _record_of(path)
    return f"sha256:{record.read_text(encoding='utf-8').split()[0]}" if record.exists() else None


def recorded_checksum(path: Path, published: str | None) -> str | None:
    """The checksum that a fetched file was found to have: the published one, or that of its first sight."""
    return published or _recorded(path)


def _record(path: Path) -> None:
    write_text(_record_of(path), f"{_digest(path, 'sha256').removeprefix('sha256:')}  {path.name}\n")


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """pooch announces each download on stderr; crysjepa reports through ``progress``."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
