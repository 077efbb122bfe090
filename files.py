"""Files read line by line with their numbers, and files written whole or not at all; `.gz` is transparent."""

from __future__ import annotations

import atexit
import gzip
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast
from weakref import WeakSet

import numpy as np
import pyarrow as pa

from .errors import InputError

_LINE_FEED, _RETURN = b"\n\r"
#: Bytes looked at together: few enough for the processor's cache.
_PIECE = 1 << 17


def file_kind(path: str | Path) -> str:
    """`trec`, `jsonl` or `parquet`, by the ending (before `.gz`)."""
    name = Path(path).name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return "jsonl"
    return "parquet" if name.endswith(".parquet") else "trec"


def run_name(path: str | Path) -> str:
    """A run file's name in reports: the file's stem, without `.gz`."""
    return Path(Path(path).name.removesuffix(".gz")).stem


def cache_folder() -> Path:
    """`CRIBBLE_CACHE`, or `~/.cache/cribble`: what can be downloaded or computed again."""
    return Path(os.environ.get("CRIBBLE_CACHE") or Path.home() / ".cache" / "cribble")


def open_existing(path: str | Path) -> IO[bytes]:
    """Open for reading bytes, unpacking gzip; a missing file or a folder is an `InputError`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file")
    try:
        return cast(IO[bytes], gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")
    except PermissionError as error:
        raise InputError(f"{path} may not be read ({error.strerror}): change its permissions") from error


@contextmanager
def write_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes so that it appears whole, synced to disk, or not at all; `.gz` compresses."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as raw:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


#: What reading a gzip file raises when it is cut short or damaged.
GZIP_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of a UTF-8 file, without line ends, a byte-order mark and blank lines."""
    with open_existing(path) as stream:
        try:
            for number, raw in enumerate(stream, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{path}:{number}: not UTF-8 at byte {error.start}: convert the file to UTF-8"
                    ) from error
                if line.strip():
                    yield number, line
        except GZIP_ERRORS as error:
            raise InputError(f"{path}: broken gzip data ({error}): fetch or write the file again") from error


_Stream = TypeVar("_Stream")
_LENT: WeakSet[Any] = WeakSet()


def lend(stream: _Stream) -> _Stream:
    """`stream`, for a reader of Arrow's. Its threads may keep a Python object a moment after the answer is there; to let
    go of it while the interpreter shuts down aborts the process, so its exit waits for them (a second at most).
    """
    _LENT.add(stream)
    return stream


@atexit.register
def _wait_for_lent() -> None:
    end = time.monotonic() + 1
    while len(_LENT) and time.monotonic() < end:
        time.sleep(0.001)


class RegularText:
    """A byte stream for Arrow's CSV reader that raises `ArrowInvalid` at the first irregular place.

    Regular is text whose only white space are single delimiters within lines and line ends (LF or CRLF). Columns between
    delimiters are then what splitting at white space gives. Looks at whole blocks, at the speed of memory.
    """

    closed = False

    def __init__(self, stream: IO[bytes], delimiter: str) -> None:
        self._stream, self._delimiter, self._last = stream, np.uint8(ord(delimiter)), np.uint8(_LINE_FEED)

    def read_buffer(self, size: int) -> pa.Buffer:
        """The next `size` bytes, or what is left. Arrow asks for buffers where a stream has this method."""
        block = pa.allocate_buffer(size, resizable=True)
        end = 0
        while end < size and (got := self._stream.readinto(memoryview(block)[end:])):  # type: ignore[attr-defined]
            end += got
        block.resize(end)
        text = np.frombuffer(block, np.uint8)
        for start in range(0, end, _PIECE):
            piece = text[max(start - 1, 0) : start + _PIECE]
            if not self._is_regular(piece if start else np.append(self._last, piece)):
                raise pa.ArrowInvalid("irregular white space")
        if not end and self._last == self._delimiter:
            raise pa.ArrowInvalid("white space at the end")
        self._last = text[-1] if end else self._last
        return block

    def read(self, size: int) -> bytes:
        """As `read_buffer`; what has it counts as a file."""
        data: bytes = self.read_buffer(size).to_pybytes()
        return data

    def close(self) -> None:
        """The stream's owner closes it."""

    def _is_regular(self, text: np.ndarray) -> bool:
        """Whether text[1:] is regular after text[0]."""
        first, second = text[:-1], text[1:]
        white = text <= 0x20
        expected = np.count_nonzero(second == self._delimiter) + np.count_nonzero(second == _LINE_FEED)
        pairs = white[:-1] & white[1:]
        if np.count_nonzero(white[1:]) == expected and first[0] != _RETURN and not pairs.any():
            return True  # as most pieces are: no CR, no two of white space together
        expected += np.count_nonzero(second == _RETURN)
        if ((first == _RETURN) & (second != _LINE_FEED)).any():
            return False
        if np.count_nonzero(white[1:]) != expected:
            return False
        return not (pairs.any() and (pairs & ((second != _LINE_FEED) | (first == self._delimiter))).any())
