"""From a config's stages to a pipeline, building the indexes that it needs and that nobody named."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpora.dataset import Dataset
from ..errors import UsageError, suggest
from ..registry import entries, find, make, option_names
from ..retrievers.indexed import Indexed
from ..stage import Stage

logger = logging.getLogger("cribble")


def stage_names() -> dict[str, str]:
    """Every name that `use:` knows → its room."""
    return {name: room for room in ("retrievers", "rerankers") for name in entries(room)}


def build_pipeline(
    stages: Sequence[Mapping[str, Any]], dataset: Dataset, indexes: Path, defaults: Mapping[str, Any]
) -> Stage:
    """Join a config's stages with `>>`. `defaults` (device, threads) fill options that a stage has and does not set."""
    built = [_stage(spec, dataset, indexes, defaults) for spec in stages]
    pipeline = built[0]
    for stage in built[1:]:
        pipeline = pipeline >> stage
    return pipeline


def check_stages(stages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse unknown names and options now, before any index is built."""
    for spec in stages:
        cls, options = _resolve(spec)
        for part in options.get("of", ()) if isinstance(options.get("of"), list) else ():
            check_stages([part] if isinstance(part, Mapping) else part)
        if isinstance(options.get("index"), Mapping):
            cls.check_build_options(options["index"])


def _resolve(spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    options = dict(spec)
    name = options.pop("use", None)
    known = stage_names()
    if name is None:
        raise UsageError(f"the stage {dict(spec)} does not say which: add use: {' | '.join(sorted(known))}")
    if name not in known:
        raise UsageError(f"the stage {name!r} is unknown: {suggest(str(name), known)}")
    cls = find(known[name], name)
    for option in options:
        if option not in option_names(cls):
            raise UsageError(f"{name} has no option {option!r}: {suggest(option, option_names(cls))}")
    return cls, options


def _stage(spec: Mapping[str, Any], dataset: Dataset, indexes: Path, defaults: Mapping[str, Any]) -> Stage:
    cls, options = _resolve(spec)
    for name, value in defaults.items():
        if name in option_names(cls) and value is not None:
            options.setdefault(name, value)
    if isinstance(options.get("of"), list):
        parts = [[part] if isinstance(part, Mapping) else part for part in options["of"]]
        options["of"] = [build_pipeline(part, dataset, indexes, defaults) for part in parts]
    if issubclass(cls, Indexed) and not isinstance(options.get("index"), str):
        return _indexed(cls, options, dataset, indexes)
    stage: Stage = make(stage_names()[spec["use"]], spec["use"], options)
    return stage


def _indexed(cls: Any, options: dict[str, Any], dataset: Dataset, indexes: Path) -> Stage:
    """A retriever over an index of this dataset, built with the options under `index:` or found from an earlier run."""
    building = dict(options.pop("index", None) or {})
    cls.check_build_options(building)
    shared = {name: options[name] for name in cls.shared_options if options.get(name) is not None}
    # The device makes no other index, so it is not part of the folder's name.
    named = {name: value for name, value in (building | shared).items() if name != "device"}
    # The documents' version is: an index of a state that is gone stays unused, and a new one is built.
    identity = json.dumps([dataset.id, dataset.version, cls.registered_name, named], sort_keys=True, default=str)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", dataset.id).strip("-").lower()[-40:]
    path = indexes / f"{slug}-{cls.registered_name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    if (path / "manifest.json").exists():
        return cls(index=str(path), **options)
    logger.info("building the %s index of %s in %s", cls.registered_name, dataset.id, path)
    return cls.build(dataset, path, **(options | building))
