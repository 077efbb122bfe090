"""Files read line by line with their numbers, and files written whole or not at all; `.gz` is transparent."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from .errors import InputError


def file_kind(path: str | Path) -> str:
    """`trec`, `jsonl` or `parquet`, by the ending (before `.gz`)."""
    name = Path(path).name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return "jsonl"
    return "parquet" if name.endswith(".parquet") else "trec"


def run_name(path: str | Path) -> str:
    """A run file's name in reports: the file's stem, without `.gz`."""
    return Path(Path(path).name.removesuffix(".gz")).stem


def open_existing(path: str | Path) -> IO[bytes]:
    """Open for reading bytes, unpacking gzip; a missing file or a folder is an `InputError`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file")
    if path.name.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


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
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: broken gzip data ({error}): fetch or write the file again") from error
