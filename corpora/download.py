"""BEIR's sets from their official host into the cache: resumed, verified, unpacked safely, whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import InputError, SetupError
from ..files import cache_folder
from ..progress import Advance, progress
from .facts import SetFacts

logger = logging.getLogger("cribble")

#: Where BEIR's archives lie; `CRIBBLE_BEIR_URL` names a mirror.
BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"

_ATTEMPTS, _TIMEOUT_SECONDS, _CHUNK = 5, 60, 1 << 20


def download_beir(name: str, facts: SetFacts) -> Path:
    """The folder of a BEIR set in the cache, downloaded and unpacked by the first call.

    A download that broke off goes on where it stopped (HTTP Range), within one call and between calls. `SetupError` where
    the set can't be had: no network, no such file, a wrong checksum, a full disk, a set that has no download.
    """
    folder = cache_folder() / "beir" / name
    if folder.is_dir():
        return folder
    if facts.private:
        raise SetupError(
            f"beir:{name} has no download, its licence forbids one: get it from {facts.private}, put it in BEIR's form "
            f"and give its folder (beir:PATH) or place it at {folder}"
        )
    url = f"{(os.environ.get('CRIBBLE_BEIR_URL') or BEIR_URL).rstrip('/')}/{name}.zip"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.with_name(f".{name}.lock")):
            if not folder.is_dir():  # else another process was faster
                archive = folder.with_name(f"{name}.zip.part")
                fetch(url, archive, what=f"beir:{name}", remedy=_remedy(name, folder), size_hint=facts.bytes or None)
                verify(archive, facts.md5, url)
                unpack(archive, folder)
                archive.unlink()
                _tag_file(archive).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(
            f"beir:{name}: can't write {folder} ({error}): free space there or set CRIBBLE_CACHE to another folder"
        ) from error
    return folder


def _remedy(name: str, folder: Path) -> str:
    return (
        f"put the unpacked set at {folder}, or give its folder as beir:PATH, or set CRIBBLE_BEIR_URL to a mirror that has "
        f"{name}.zip; sample:stdlib needs no network"
    )


@contextlib.contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


# ---- the archive --------------------------------------------------------------------------------------------------------


def fetch(url: str, path: Path, *, what: str, remedy: str, size_hint: int | None = None) -> None:
    """Bring `url` to `path`, going on with what is there already. A break is tried again, while attempts bring bytes."""
    with progress(f"downloading {what}", size_hint, "bytes") as advance:
        advance(_size(path))
        fruitless, reason = 0, ""
        while fruitless < _ATTEMPTS:
            before = _size(path)
            try:
                if _fetch_once(url, path, advance):
                    return
                reason = "the connection broke off"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise SetupError(f"{what}: {url} answers {error.code} {error.reason}: {remedy}") from error
                reason = f"HTTP {error.code} {error.reason}"
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = f"{type(error).__name__} {error}".strip()
            fruitless = 0 if _size(path) > before else fruitless + 1
        raise SetupError(f"{what}: can't download {url} ({reason}): {remedy}")


def _fetch_once(url: str, path: Path, advance: Advance) -> bool:
    """One request; whether all bytes are there afterwards."""
    have, tag = _size(path), _tag_file(path)
    request = urllib.request.Request(url, headers={"User-Agent": "cribble", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.exists():  # without it, a file that changed on the server would be glued to the old one's head
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what we have: complete, or another file; the checksum decides
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            path.unlink()
            return False
        raise
    with response:
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        entity = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if entity and not entity.startswith("W/"):
            tag.write_text(entity, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
        with path.open("ab" if goes_on else "wb") as stream:
            received = _copy(response, stream, advance)
        expected = response.headers.get("Content-Length")
        return expected is None or received == int(expected)


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], advance: Advance) -> int:
    received = 0
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except http.client.IncompleteRead as error:
            chunk = error.partial
        if not chunk:
            return received
        stream.write(chunk)
        received += len(chunk)
        advance(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag_file(path: Path) -> Path:
    return path.with_name(path.name + ".etag")


def verify(archive: Path, md5: str, url: str) -> None:
    """Refuse and remove an archive whose MD5 is not the one known; MD5 is what BEIR publishes, against damage, not malice."""
    if not md5:
        logger.warning("%s: no checksum is known for it, so none was compared", url)
        return
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        archive.unlink()
        _tag_file(archive).unlink(missing_ok=True)
        raise SetupError(
            f"{url}: the MD5 of what arrived is {found}, expected {md5}; it was removed. Try again, or check the mirror in CRIBBLE_BEIR_URL"
        )


# ---- unpacking ----------------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`, whole or not at all. Members may only lie below the archive's own top folder."""
    aside = folder.with_name(f".{folder.name}.tmp")  # a killed process may have left one
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [(member, _place(member, archive)) for member in packed.infolist() if not member.is_dir()]
            needed, free = sum(member.file_size for member, _ in members), shutil.disk_usage(folder.parent).free
            if needed > free:
                raise SetupError(
                    f"{archive} unpacks to {needed:,} bytes, {folder.parent} has {free:,} free: set CRIBBLE_CACHE to another disk"
                )
            for member, place in members:
                target = aside / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream, _CHUNK)
                    os.fsync(stream.fileno())
        os.replace(aside, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise InputError(f"{archive}: no whole zip archive ({error}); it was removed, try again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _place(member: zipfile.ZipInfo, archive: Path) -> Path:
    """Where a member goes, without the top folder that BEIR's archives have; refuses what would leave the folder."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    escapes = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    if escapes or stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{archive}: the member {member.filename!r} would leave its folder: nothing was unpacked")
    return Path(*path.parts[1:]) if len(path.parts) > 1 else Path(path.name)
