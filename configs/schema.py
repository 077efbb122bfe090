"""An experiment as data: a YAML file with `dataset`, `pipeline`, `measures`, `runtime`; unknown keys are errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InputError, UsageError, suggest

_PRESETS = Path(__file__).parent


class Runtime(BaseModel):
    """How to run, not what: none of these changes a result but `seed` (of intervals and tests)."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 42
    #: auto, cpu or cuda, for every stage with a `device` that does not say otherwise.
    device: str = "auto"
    #: CPU threads of torch, FAISS and Lucene; all cores by default.
    threads: int | None = Field(default=None, ge=1)
    #: Where indexes are built that no stage names: one folder per dataset and options, used again by later runs.
    indexes: str = "indexes"


class Explain(BaseModel):
    """What the report's page shows of matched words, where a pipeline scores by late interaction: the best `documents` of so
    many `queries`, those on which the systems differ most. 0 queries: none, and no model is loaded for them."""

    model_config = ConfigDict(extra="forbid")

    queries: int = Field(default=50, ge=0, le=1000)
    documents: int = Field(default=3, ge=1, le=10)


class Config(BaseModel):
    """A whole experiment. `pipeline` is a list of stages, or a mapping of names to lists, to be compared."""

    model_config = ConfigDict(extra="forbid")

    name: str = "run"
    dataset: str
    pipeline: dict[str, list[dict[str, Any]]]
    measures: str = ""
    #: The system that the others are tested against; the first by default.
    baseline: str | None = None
    explain: Explain = Explain()
    runtime: Runtime = Runtime()

    @field_validator("pipeline", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """One unnamed list of stages is a mapping with one name, made of the stages' names."""
        if isinstance(value, list):
            value = {" >> ".join(str(stage.get("use", "?")) for stage in value if isinstance(stage, dict)): value}
        if not isinstance(value, dict) or not value:
            raise ValueError("expected a list of stages, or a mapping of names to such lists")
        for name, stages in value.items():
            if (
                not isinstance(stages, list)
                or not stages
                or not all(isinstance(s, dict) and "use" in s for s in stages)
            ):
                raise ValueError(f"{name!r}: expected a list of stages such as {{use: bm25, k: 1000}}")
        return {str(name): stages for name, stages in value.items()}

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.baseline is not None and self.baseline not in self.pipeline:
            raise ValueError(f"the baseline {self.baseline!r} is no system: {suggest(self.baseline, self.pipeline)}")
        files: dict[str, str] = {}
        for name in self.pipeline:
            other = files.setdefault(file_name(name), name)
            if other != name:
                raise ValueError(f"the systems {other!r} and {name!r} would write the same file: rename one")
        return self

    @field_validator("measures", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return " ".join(value) if isinstance(value, list) else value


def file_name(system: str) -> str:
    """A system's name as its files have it."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", system).strip("-") or "run"


def preset_names() -> list[str]:
    """Names of the experiments that ship with cribble."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, or a shipped experiment by name, and apply `key.path=value` overrides (values are YAML)."""
    return parse_config(read_config(source, overrides), str(source))


def read_config(source: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a config with its overrides, not checked yet."""
    path = Path(source)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        if str(source) not in preset_names():
            raise UsageError(
                f"config {str(source)!r} is neither a file nor a shipped one: {suggest(str(source), preset_names())}"
            )
        path = _PRESETS / f"{source}.yaml"
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a config's YAML file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected the keys dataset, pipeline, measures, runtime; found {type(data).__name__}")
    data.setdefault("name", path.stem)
    for override in overrides:
        _override(data, override)
    return data


def parse_config(data: dict[str, Any], where: str = "config") -> Config:
    """Check a config given as a dictionary; each wrong or unknown key raises `UsageError` with its path."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: " + "; ".join(_complaint(e) for e in error.errors())) from error


def _complaint(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if not place:
        return str(error["msg"].removeprefix("Value error, "))
    if error["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"runtime": Runtime, "explain": Explain}
        model = parts.get(error["loc"][0], Config)
        return f"unknown key {place!r}: {suggest(str(error['loc'][-1]), model.model_fields)}"
    if error["type"] == "missing":
        return f"the key {place!r} is missing"
    return f"{place}: {error['msg'].removeprefix('Value error, ')} (got {error['input']!r:.80})"


def _override(data: Any, override: str) -> None:
    """Set one `key.path=value`; list positions are numbers from 0."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UsageError(f"override {override!r}: expected key=value, such as pipeline.1.depth=50")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"override {override!r}: the value is no YAML") from error
    *parents, last = path.split(".")
    for part in parents:
        if isinstance(data, list):
            data = data[_position(part, data, override)]
        elif isinstance(data, dict):
            data = data.setdefault(part, {})
        else:
            raise UsageError(f"override {override!r}: {part!r} is inside of {data!r}, which has no parts")
    if isinstance(data, list):
        data[_position(last, data, override)] = value
    elif isinstance(data, dict):
        data[last] = value
    else:
        raise UsageError(f"override {override!r}: {last!r} is inside of {data!r}, which has no parts")


def _position(part: str, data: list[Any], override: str) -> int:
    if not part.isdigit() or int(part) >= len(data):
        raise UsageError(f"override {override!r}: {part!r} is no position from 0 to {len(data) - 1}")
    return int(part)
