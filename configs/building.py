"""From a config's stages to a pipeline, building the indexes that it needs and that nobody named."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from ..corpora.dataset import Dataset
from ..errors import UsageError, suggest
from ..registry import entries, find, make, option_names
from ..retrievers.indexed import Indexed
from ..retrievers.opening import open_retriever
from ..stage import Reranker, Stage

logger = logging.getLogger("cribble")


def stage_names() -> dict[str, str]:
    """Every name that `use:` knows → its room."""
    return {name: room for room in ("retrievers", "rerankers") for name in entries(room)}


def build_pipeline(
    stages: Sequence[Mapping[str, Any]], dataset: Dataset | None, indexes: Path, defaults: Mapping[str, Any]
) -> Stage:
    """Join a config's stages with `>>`. `defaults` (device, threads) fill options that a stage has and does not set.

    Indexes that no stage names are found in `indexes` or built there; without a dataset none is.
    """
    built = [_stage(spec, dataset, indexes, defaults) for spec in stages]
    pipeline = built[0]
    if isinstance(pipeline, Reranker):
        raise UsageError(f"{pipeline.label} reorders candidates: put a retriever before it (bm25 >> {pipeline.label})")
    for stage in built[1:]:
        pipeline = pipeline >> stage
    return pipeline


def over_index(index: str | Path, retriever: str | None, options: dict[str, Any]) -> Stage:
    """The retriever that searches the index; or `retriever`, such as dense-prf, around it. `options` are those of the
    outermost; one around it gets those of the index's own under `of`, and others' as a config has them.
    """
    if retriever is None:
        return open_retriever(index, **options)
    inner = {} if options.get("of") is None else options["of"]
    if not isinstance(inner, dict):
        raise UsageError(f"of is {inner!r}: it is the index's own retriever here, set its options as of.NAME=VALUE")
    own = open_retriever(index, **inner)
    of = {"use": own.registered_name, "index": str(index)} | inner
    return build_pipeline([{"use": retriever} | options | {"of": of}], None, Path(), {})


def check_stages(stages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse unknown names, wrong options and orders that can't work now, before any index is built."""
    build_pipeline(stages, None, Path(), {})


def _resolve(spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    if not isinstance(spec, Mapping):
        raise UsageError(f"the stage {spec!r}: expected a mapping with its name and options, such as {{use: bm25}}")
    options = dict(spec)
    name = options.pop("use", None)
    known = stage_names()
    if name is None:
        raise UsageError(f"the stage {dict(spec)} does not say which: add use: {' | '.join(sorted(known))}")
    if str(name) not in known:
        raise UsageError(f"the stage {name!r} is unknown: {suggest(str(name), known)}")
    cls = find(known[name], name)
    return cls, options


def _stage(spec: Mapping[str, Any], dataset: Dataset | None, indexes: Path, defaults: Mapping[str, Any]) -> Stage:
    cls, options = _resolve(spec)
    for name, value in defaults.items():
        if name in option_names(cls) and value is not None:
            options.setdefault(name, value)
    if "backend" in option_names(cls):
        options["backend"] = _backend(options.get("backend", "hf"), defaults)
    if isinstance(options.get("of"), list):
        parts = [part if isinstance(part, list) and part else [part] for part in options["of"]]
        options["of"] = [build_pipeline(part, dataset, indexes, defaults) for part in parts]
    for name in ("of", "reranker"):
        if isinstance(options.get(name), Mapping) and "use" in options[name]:
            options[name] = _stage(options[name], dataset, indexes, defaults)
    if isinstance(options.get("reranker"), list):
        rerankers = [_stage(part, dataset, indexes, defaults) for part in options["reranker"]]
        options["reranker"] = reduce(lambda first, second: first >> second, rerankers)
    if issubclass(cls, Indexed) and not isinstance(options.get("index"), str):
        return _indexed(cls, options, dataset, indexes)
    stage: Stage = make(stage_names()[spec["use"]], spec["use"], options)
    return stage


def _backend(given: Any, defaults: Mapping[str, Any]) -> Any:
    """An LLM stage's backend with the defaults that it has options for."""
    spec = dict(given) if isinstance(given, Mapping) else {"use": given}
    known = option_names(find("models/backends", str(spec.get("use", "hf"))))
    return {name: value for name, value in defaults.items() if name in known and value is not None} | spec


def _indexed(cls: Any, options: dict[str, Any], dataset: Dataset | None, indexes: Path) -> Stage:
    """A retriever over an index of this dataset, built with the options under `index:` or found from an earlier run."""
    building = options.pop("index", None) or {}
    if not isinstance(building, Mapping):
        raise UsageError(
            f"{cls.registered_name}: index is {building!r}, expected a folder, or options of the build such as "
            "{shard_documents: 10000}"
        )
    building = dict(building)
    cls.check_build_options(building)
    stage: Stage = make("retrievers", cls.registered_name, {"index": ""} | options)
    if dataset is None:
        return stage
    shared = {name: options[name] for name in cls.shared_options if options.get(name) is not None}
    # The device makes no other index, so it is not part of the folder's name.
    named = {name: value for name, value in (building | shared).items() if name != "device"}
    # The documents' version is: an index of a state that is gone stays unused, and a new one is built.
    identity = json.dumps([dataset.id, dataset.version, cls.registered_name, named], sort_keys=True, default=str)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", dataset.id).strip("-").lower()[-40:]
    path = indexes / f"{slug}-{cls.registered_name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    if (path / "manifest.json").exists():
        return replace(stage, index=str(path))  # type: ignore[type-var]
    logger.info("building the %s index of %s in %s", cls.registered_name, dataset.id, path)
    return cls.build(dataset, path, **(options | building))
