"""Bytes of files, of compressed files and of members of archives, with a limit on what they unpack to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Any

from crysjepa.io.cif.blocks import ReadError

MAX_INFLATION = 200
"""What unpacks to more than this many times its size is taken for an attack ..."""
UNSUSPICIOUS = 20_000_000
"""... beyond so many bytes."""
_MAX_XZ_MEMORY = 512_000_000


class Bounded(io.RawIOBase):
    """A stream that ends with a ReadError when more comes out of it than ``packed`` bytes can hold."""

    def __init__(self, source: Any, packed: int) -> None:
        self._source, self._packed, self._done = source, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        self._done += len(data)
        if self._done > max(UNSUSPICIOUS, MAX_INFLATION * self._packed):
            raise ReadError(f"unpacks to more than {self._done / 1e6:.0f} MB from {self._packed} bytes")
        buffer[: len(data)] = data
        return len(data)


def unpacked(handle: IO[bytes], compression: str, packed: int) -> io.BufferedReader:
    """The bytes behind ``packed`` bytes of this compression; what is damaged raises as it is read."""
    source: Any
    if compression == "gzip":
        source = gzip.GzipFile(fileobj=handle)
    elif compression == "bz2":
        source = _Streams(handle, bz2.BZ2Decompressor)
    elif compression == "xz":
        source = _Streams(handle, lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY))
    elif compression == "zstd":
        import pyarrow as pa

        source = pa.CompressedInputStream(pa.PythonFile(handle, mode="r"), "zstd")
    else:
        source = handle
    return io.BufferedReader(Bounded(source, packed), 1 << 20)


class _Streams:
    """Streams one after another. ``lzma.LZMAFile`` and ``bz2.BZ2File`` would pass over what is no stream
    behind the first, and the former does not limit the memory that a file may ask for.
    """

    def __init__(self, handle: IO[bytes], new: Callable[[], Any]) -> None:
        self._handle, self._new = handle, new
        self._decoder = new()

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0")
                while not rest and (more := self._handle.read(1 << 16)):
                    rest = more.lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder, data = self._new(), rest
            else:
                data = self._handle.read(1 << 16) if self._decoder.needs_input else b""
                if not data and self._decoder.needs_input:
                    raise EOFError("the file ends before its end-of-stream marker")
            if out := self._decoder.decompress(data, size):
                return bytes(out)
