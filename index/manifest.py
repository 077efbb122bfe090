"""What an index folder says about itself: the plan that is written first and the manifest that is written last."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, SetupError, UsageError, suggest
from ..files import write_whole
from ..vectors import EncoderSpec
from .durable import FileTable, Held, check_files, inside, sync

#: Version of the folder's layout as a build makes it. A reader refuses any but these two.
FORMAT = 1

#: That of an index which was changed since: it names its folders and what was deleted (changes.py).
CHANGED_FORMAT = 2

#: Indexes up to this many bytes are compared with their SHA-256 whenever they are opened (about half a second).
VERIFIED_BYTES = 256 << 20

PLAN, MANIFEST = "plan.json", "manifest.json"

#: The folder of what a build learns before it makes shards.
TRAINING = "training"


@dataclass(frozen=True)
class Plan:
    """What a build is going to make. A build that was interrupted goes on only under an equal plan.

    `kind` is the index kind's name, `corpus` names the dataset, `options` are the kind's own (JSON values only).
    """

    kind: str
    corpus: str
    shard_documents: int
    options: dict[str, Any] = field(default_factory=dict)
    encoder: EncoderSpec | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.shard_documents < 1:
            raise UsageError(f"shard_documents is {self.shard_documents}, expected at least 1")
        object.__setattr__(self, "options", json.loads(json.dumps(self.options)))  # tuples become lists, as when read

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        encoder = data.get("encoder")
        return cls(**{**data, "encoder": EncoderSpec.from_json(encoder) if encoder else None})

    def differences(self, recorded: Plan) -> list[str]:
        """One line per value in which this plan differs from the one recorded in a folder."""
        mine, theirs = self.to_json(), recorded.to_json()
        pairs = [(name, mine[name], theirs[name]) for name in ("format", "kind", "corpus", "shard_documents")]
        names = sorted({*self.options, *recorded.options})
        pairs += [(f"options.{name}", self.options.get(name), recorded.options.get(name)) for name in names]
        lines = [f"{name}: {a!r} asked for, {b!r} recorded" for name, a, b in pairs if a != b]
        return lines + encoder_differences(self.encoder, recorded.encoder)


def encoder_differences(asked: EncoderSpec | None, recorded: EncoderSpec | None) -> list[str]:
    if asked is None or recorded is None:
        if asked is recorded:
            return []
        return [
            f"encoder: {asked.model if asked else None!r} asked for, {recorded.model if recorded else None!r} recorded"
        ]
    return [
        f"encoder.{line}".removesuffix(" there").replace(" here, ", " asked for, ", 1) + " recorded"
        for line in asked.differences(recorded)
    ]


#: What the manifest of a changed index has besides.
_CHANGES = ("generation", "folders", "whole", "tombstones", "added")


@dataclass(frozen=True)
class Manifest:
    """A whole index: its plan, its corpus, its shards and the size and SHA-256 of each of its files.

    `documents` counts them, `fingerprint` is the SHA-256 over all ids, texts and titles in order, `shards` holds the
    rows per shard, `counts` what happened to documents (`empty_texts`, `truncated_texts`, …), summed over shards.

    An index that was changed has a `generation` of 1 or more; then `folders` names its shards' folders in order and
    `whole` the one that spans them, `tombstones` is the file with the rows that are deleted ("" when none is), and
    `added` names the datasets that were added. While a manifest that was read is referred to, the files that it names
    stay on the disk, whatever later generations need (`hold`).
    """

    plan: Plan
    documents: int
    fingerprint: str
    shards: list[int]
    counts: dict[str, int]
    versions: dict[str, str]
    files: FileTable
    created: str = ""
    generation: int = 0
    folders: list[str] = field(default_factory=list)
    whole: str = "whole"
    tombstones: str = ""
    added: list[str] = field(default_factory=list)
    hold: Held | None = field(default=None, compare=False, repr=False)

    @property
    def rows(self) -> int:
        """Rows of all shards: the documents, and those that are deleted but not yet compacted away."""
        return sum(self.shards)

    def shard_folders(self, root: str | Path) -> list[Path]:
        """The folders of all shards, in row order."""
        names = self.folders or [f"shards/{number:05d}" for number in range(len(self.shards))]
        return [Path(root, name) for name in names]

    def whole_folder(self, root: str | Path) -> Path:
        """The folder of the files that span all shards."""
        return Path(root, self.whole)

    def deleted_rows(self, root: str | Path) -> np.ndarray:
        """The rows (m,) int64 that are deleted, ascending."""
        if not self.tombstones:
            return np.zeros(0, np.int64)
        rows: np.ndarray = np.load(Path(root, self.tombstones))
        return rows

    @property
    def kind(self) -> str:
        return self.plan.kind

    @property
    def encoder(self) -> EncoderSpec | None:
        return self.plan.encoder

    @property
    def options(self) -> dict[str, Any]:
        return self.plan.options

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(entry["bytes"] for entry in self.files.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "format": CHANGED_FORMAT if self.generation else self.plan.format,
            "kind": self.plan.kind,
            "encoder": asdict(self.plan.encoder) if self.plan.encoder else None,
            "corpus": {"id": self.plan.corpus, "fingerprint": self.fingerprint, "documents": self.documents},
            "options": self.plan.options,
            "shard_documents": self.plan.shard_documents,
            "shards": self.shards,
            "counts": self.counts,
            "versions": self.versions,
            "created": self.created,
            "files": self.files,
        } | ({name: getattr(self, name) for name in _CHANGES} if self.generation else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        corpus = data["corpus"]
        encoder = EncoderSpec.from_json(data["encoder"]) if data["encoder"] else None
        plan = Plan(data["kind"], corpus["id"], data["shard_documents"], data["options"], encoder)
        return cls(
            plan=plan,
            documents=corpus["documents"],
            fingerprint=corpus["fingerprint"],
            shards=list(data["shards"]),
            counts=dict(data["counts"]),
            versions=dict(data["versions"]),
            files=dict(data["files"]),
            created=data["created"],
            **{name: data[name] for name in _CHANGES if name in data},
        )

    def require_encoder(self, spec: EncoderSpec, path: str | Path) -> None:
        """Raise `InputError` with both values when `spec` is not the encoder that made this index."""
        if lines := encoder_differences(spec, self.encoder):
            raise InputError(
                f"{path}: the index was made by another encoder ({'; '.join(lines)}): use the recorded one, or build "
                f"an index with the one asked for in another folder"
            )


def write_plan(root: Path, plan: Plan) -> None:
    _write_json(root / PLAN, plan.to_json())


def read_plan(root: Path) -> Plan | None:
    """The recorded plan, or None where no build has begun."""
    path = root / PLAN
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_bytes())
        if data.get("format") != FORMAT:
            raise SetupError(
                f"{path}: layout version {data.get('format')!r}, this cribble writes {FORMAT}: build in another folder"
            )
        return Plan.from_json(data)
    except (ValueError, TypeError, AttributeError) as error:
        raise SetupError(f"{path}: damaged ({error}): delete the folder, or build with overwrite") from error


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest with its own SHA-256; from here on the index is whole."""
    data = manifest.to_json()
    _write_json(root / MANIFEST, {"sha256": _own_sha256(data), **data})


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a whole index. `SetupError` where there is none, an unfinished, damaged or unknown one."""
    root = Path(path)
    file = root / MANIFEST
    try:
        hold = Held(file)
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(_why_absent(root)) from None
    raw = hold.read()
    remedy = "build the index again with overwrite"
    try:
        data = json.loads(raw)
        version = data["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{file}: damaged ({type(error).__name__}: {error}): {remedy}") from error
    if version not in (FORMAT, CHANGED_FORMAT):
        raise SetupError(
            f"{file}: layout version {version!r}, this cribble reads {FORMAT} and {CHANGED_FORMAT}: update cribble, or "
            f"{remedy}"
        )
    recorded = data.pop("sha256", None)
    found = _own_sha256(data)
    if found != recorded:
        raise SetupError(f"{file}: SHA-256 of its content {found}, expected {recorded}: the file is damaged; {remedy}")
    manifest = replace(Manifest.from_json(data), hold=hold)
    for name in (*manifest.folders, manifest.whole, *([manifest.tombstones] if manifest.tombstones else ())):
        inside(root, name)
    return manifest


def check_index(path: str | Path, *, kind: str | None = None, verify: bool | None = None) -> Manifest:
    """Read the manifest and compare the files with it: sizes always; SHA-256 when `verify`, or by default (None) when
    the whole index has at most `VERIFIED_BYTES`. A damaged file is a `SetupError` that names it and both values,
    another kind than `kind` an `InputError`.
    """
    manifest = read_manifest(path)
    if kind is not None and manifest.kind != kind:
        raise InputError(f"{path}: an index of kind {manifest.kind!r}, expected {kind!r}: name another folder")
    contents = manifest.bytes <= VERIFIED_BYTES if verify is None else verify
    check_files(Path(path), manifest.files, contents=contents, remedy="build the index again with overwrite")
    _check_tombstones(Path(path), manifest)
    return manifest


def _check_tombstones(root: Path, manifest: Manifest) -> None:
    """Raise `SetupError` unless the deleted rows are rows of the index and explain the number of documents."""
    deleted = manifest.deleted_rows(root)
    ascending = bool((np.diff(deleted) > 0).all())
    inside_rows = not len(deleted) or (deleted[0] >= 0 and deleted[-1] < manifest.rows)
    if not ascending or not inside_rows or manifest.documents != manifest.rows - len(deleted):
        raise SetupError(
            f"{root}: {manifest.rows:,} rows and {len(deleted):,} deleted ones do not make {manifest.documents:,} "
            f"documents: build the index again with overwrite"
        )


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the distributions among `names` that are installed, and cribble's own."""
    versions = {}
    for name in ("cribble", *names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _own_sha256(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with write_whole(path) as stream:
        stream.write(json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n")
    sync(path.parent)


def _why_absent(root: Path) -> str:
    if (root / PLAN).exists():
        return f"{root}: unfinished index: run the same build command again to resume it"
    if root.is_dir():
        below = sorted(p.parent.name for p in root.glob(f"*/{MANIFEST}"))
        hint = f"it holds the indexes {', '.join(below)}" if below else "build one with `cribble index`"
        return f"{root}: no index here (no {MANIFEST}): {hint}"
    if root.exists():
        return f"{root}: a file, not an index folder: name the folder that `cribble index --out` was given"
    beside = [p.parent.name for p in root.parent.glob(f"*/{MANIFEST}")] if root.parent.is_dir() else []
    hint = suggest(root.name, beside) if beside else "build one with `cribble index`"
    return f"{root}: no such folder: {hint}"
