"""Generations of an index that changes: each is a manifest, and files go only when no manifest names them.

manifest.json            the newest generation
manifest-00003.json      generation 3, kept while somebody reads it
shards-00004/00000/      shards that the change to generation 4 made; until a manifest names them, `change.json` says
                         what is being made there, and a repeated change goes on with it
whole-00004/             what spans all shards of generation 4
deleted-00005.npy        the rows that are deleted in generation 5, ascending

A reader holds the manifest that it has read (`Manifest.hold`, a shared lock on the file). A change gives the old manifest
a second name, renames the new one into place, and removes what only manifests without readers name; what is still
read goes with a later change. So a reader keeps all its files, also those that it has not opened yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SetupError
from ..files import write_whole
from .build import CHANGED
from .durable import is_held, remove, sync
from .manifest import MANIFEST, TRAINING, Manifest, read_manifest, write_manifest

#: What is being made in a folder of shards that no manifest names yet.
CHANGE = "change.json"


def newest(root: Path) -> Manifest:
    """The manifest, not held: who changes the index keeps nobody's files from going."""
    return replace(read_manifest(root), hold=None)


def commit(root: Path, manifest: Manifest) -> None:
    """Make `manifest` the newest generation, in one rename, and remove what nobody reads any more."""
    retired = root / f"manifest-{manifest.generation - 1:05d}.json"
    retired.unlink(missing_ok=True)
    os.link(root / MANIFEST, retired)
    sync(root)
    write_manifest(root, manifest)
    clean(root)


def clean(root: Path) -> None:
    """Remove what no generation names that is the newest or is read, and what a killed change left unfinished.

    Folders with a `change.json` stay: their change goes on when it is repeated.
    """
    current = newest(root)
    needed = _named(current)
    for file in sorted(root.glob("manifest-*.json")):
        if os.path.samefile(file, root / MANIFEST) or not is_held(file):
            remove(file)
        else:
            needed |= _named(_retired(file)) | {file.name}
    for name in filter(CHANGED.fullmatch, os.listdir(root)):
        if name not in needed and not (root / name / CHANGE).exists():
            remove(root / name)
        elif name in needed and name.startswith("shards-"):
            _remove_unnamed(root / name, needed)
    for name in {"shards", "whole", TRAINING} - needed:
        remove(root / name)
    if "shards" in needed:
        _remove_unnamed(root / "shards", needed)
    for leftover in root.glob(f".{MANIFEST}.*.tmp"):
        remove(leftover)
    sync(root)


def _named(manifest: Manifest) -> set[str]:
    """All folders and files of a generation, and the folders around them, by name below the root."""
    shards = [folder.as_posix() for folder in manifest.shard_folders("")]
    around = [name.partition("/")[0] for name in shards]
    return {*shards, *around, manifest.whole, manifest.tombstones} - {""}


def _retired(file: Path) -> Manifest:
    return Manifest.from_json({key: value for key, value in json.loads(file.read_bytes()).items() if key != "sha256"})


def _remove_unnamed(home: Path, needed: set[str]) -> None:
    for name in os.listdir(home):
        if f"{home.name}/{name}" not in needed:
            remove(home / name)


def leftovers(root: Path, manifest: Manifest) -> list[str]:
    """Sentences about what lies in an index beside its newest generation, for `cribble doctor`."""
    lines = []
    for file in sorted(root.glob(f"shards-*/{CHANGE}")):
        if file.parent.name not in _named(manifest):
            lines.append(f"an interrupted {_described(json.loads(file.read_bytes()))} in {file.parent.name}")
    if (root / TRAINING).exists():
        lines.append(
            f"{TRAINING}, from which a build that was killed at its end has learnt, and which the next change removes"
        )
    retired = [file.name for file in sorted(root.glob("manifest-*.json"))]
    if retired:
        lines.append(f"files of {len(retired)} earlier generations, which somebody reads or the next change removes")
    return lines


def home_of(root: Path, manifest: Manifest, change: Mapping[str, Any]) -> Path:
    """The folder where the shards of this `change` are made: that of an equal interrupted one, or a new one.

    An interrupted compaction of another state is removed; an interrupted addition of something else raises `SetupError`
    where it has finished shards, as they have cost encoding.
    """
    named = _named(manifest)
    for file in sorted(root.glob(f"shards-*/{CHANGE}")):
        recorded = json.loads(file.read_bytes())
        home = file.parent
        if home.name in named:
            continue
        for aside in home.glob("*.tmp"):
            remove(aside)
        if recorded == change:
            return home
        if recorded["operation"] != "compact" and any(path.is_dir() for path in home.iterdir()):
            raise SetupError(
                f"{root}: an interrupted {_described(recorded)} is in {home}: repeat it to go on with it, or delete that "
                f"folder"
            )
        remove(home)
    home = root / f"shards-{manifest.generation + 1:05d}"
    home.mkdir()
    with write_whole(home / CHANGE) as stream:
        stream.write(json.dumps(change, indent=1, sort_keys=True).encode() + b"\n")
    sync(home)
    sync(root)
    return home


def _described(change: Mapping[str, Any]) -> str:
    return f"addition of {change['corpus']}" if change["operation"] == "add" else "compaction"
