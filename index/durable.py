"""Files that survive a power cut: synced before they get their name, checked by SHA-256, one writer at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import InputError, SetupError

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}

#: Relative file name → {"bytes": int, "sha256": hex}.
FileTable = dict[str, dict[str, Any]]


def sync(path: Path) -> None:
    """Force a file's or a folder's content onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def commit_folder(aside: Path, final: Path) -> None:
    """Give the folder `aside` its name `final`, with everything in it on the disk first and the name itself after."""
    for folder, _, names in os.walk(aside, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
    os.rename(aside, final)
    sync(final.parent)


def write_array(path: Path, parts: Iterable[np.ndarray], rows: int, row_shape: tuple[int, ...], dtype: Any) -> None:
    """Write a `.npy` file of shape (rows, *row_shape) from consecutive `parts`, holding one part at a time.

    Not `np.save`: on a full disk that raises an error without the reason, and it needs the whole array.
    """
    dtype = np.dtype(dtype)
    written = 0
    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *row_shape)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype).reshape(-1).view(np.uint8).data)
            written += len(part)
    if written != rows:
        raise ValueError(f"{path}: {written} rows were given, {rows} announced")


def file_table(root: Path, leave_out: Iterable[str] = ()) -> FileTable:
    """Size and SHA-256 of every file below `root`, by its name relative to `root`, in sorted order."""
    left_out = set(leave_out)
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return {name: file_entry(root / name) for name in names if name not in left_out}


def file_entry(path: Path) -> dict[str, Any]:
    """A file's line in a `FileTable`."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(root: Path, files: Mapping[str, Mapping[str, Any]], *, contents: bool, remedy: str) -> None:
    """Compare files with their table: sizes always, SHA-256 when `contents`. `SetupError` names the first bad one."""
    for name, recorded in files.items():
        path = root / inside(root, name)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SetupError(f"{path}: cannot be read ({error.strerror}), but the index lists it: {remedy}") from error
        if size != recorded["bytes"]:
            raise SetupError(f"{path}: {size:,} bytes, expected {recorded['bytes']:,}: the file is damaged; {remedy}")
        if contents and (found := sha256(path)) != recorded["sha256"]:
            raise SetupError(f"{path}: SHA-256 {found}, expected {recorded['sha256']}: the file is damaged; {remedy}")


def inside(root: Path, name: str) -> str:
    """`name` if it stays below `root`; a name that leaves it (absolute, `..`, a link outwards) is refused."""
    pure = PurePosixPath(name)
    escapes = not name or "\\" in name or pure.is_absolute() or ".." in pure.parts
    if escapes or not (root / name).resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{root}: the manifest names the file {name!r}, which lies outside the index: don't use this index"
        )
    return name


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Held:
    """A file held open under a shared flock: as long as this object lives, `is_held` tells a writer so.

    The file is the one that has the name now, even if a writer replaces it in between. Where the file system has no
    locks, it is open all the same; then nobody can write there either.
    """

    def __init__(self, path: Path) -> None:
        import fcntl

        while True:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(self._handle), path.stat()):
                    return
            except FileNotFoundError:  # between two names: the next look finds the new file, or none
                pass
            except OSError:
                return
            self._release()

    def read(self) -> bytes:
        """The file's content."""
        return os.pread(self._handle, os.fstat(self._handle).st_size, 0)

    def __deepcopy__(self, memo: object) -> Held:
        return self

    def _release(self) -> None:
        os.close(self._handle)
        self._handle = -1

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self._release()


def is_held(path: Path) -> bool:
    """Whether anybody, here or in another process, has the file `Held`."""
    import fcntl

    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold `root/lock`. The kernel drops the lock with its process, so a file left by a dead one is no obstacle."""
    import fcntl

    path = root / "lock"
    while True:
        stream = path.open("a+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with stream:
                stream.seek(0)
                owner = stream.read().strip() or "unknown"
            raise SetupError(
                f"{root}: process {owner} is building this index, or changing it, right now (it holds {path}): wait until it has "
                f"finished, or build into another folder"
            ) from error
        # Between open and lock, the former owner may have removed the file: then this is a lock on nothing.
        try:
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                break
        except FileNotFoundError:
            pass
        stream.close()
    try:
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        stream.close()


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn a full disk and missing rights below `root` into a `SetupError` with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SetupError(
                f"{root}: the disk is full or the file size limit is reached ({error.strerror}): make room and run the "
                f"same build again, it goes on after the last finished shard"
            ) from error
        if error.errno in _DENIED and str(error.filename or "").startswith(str(root)):
            raise SetupError(
                f"{error.filename}: cannot be written ({error.strerror}): choose a folder that you may write"
            ) from error
        raise
