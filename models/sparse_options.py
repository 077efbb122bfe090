"""From a retriever's options to the sparse encoders of documents and of queries. Loads no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import InputError, UsageError, suggest
from .sparse_settings import SparseSettings

if TYPE_CHECKING:
    from ..vectors import EncoderSpec
    from .sparse_encoder import SparseEncoder

#: Options of expanding documents by generated queries before they are encoded, and their types.
EXPANDING: dict[str, Any] = {
    "expand": str,
    "expand_queries": int,
    "expand_seed": int,
    "expand_top_k": int,
    "expand_max_length": int,
}

#: Options of a sparse encoder that change its vectors, and their types.
SPARSE_ENCODING: dict[str, Any] = {
    "dtype": str,
    "card": str | None,
    "trust_remote_code": bool,
    "token_budget": int,
    **get_type_hints(SparseSettings),
    **EXPANDING,
}


def make_sparse_encoder(model: str | os.PathLike[str] | None = None, **options: Any) -> SparseEncoder:
    """The encoder that `model` names, with `options` of `SPARSE_ENCODING` and `device`."""
    from .doc2query import Expander
    from .sparse_encoder import SparseEncoder

    if model is None:
        raise UsageError(
            "sparse: no model is named and none is embedded: name one (--model naver/splade-v3, or a folder)"
        )
    for name in options:
        if name not in SPARSE_ENCODING and name != "device":
            raise UsageError(f"the sparse encoder has no option {name!r}: {suggest(name, SPARSE_ENCODING)}")
    expanding = {name.removeprefix("expand_"): options.pop(name) for name in EXPANDING if name in options}
    expander = None
    if expanding and "expand" not in expanding:
        raise UsageError(f"sparse: expand_{next(iter(expanding))} has no effect without expand=MODEL")
    if expanding:
        device = options.get("device", "auto")
        expander = Expander(expanding.pop("expand"), device=device, **expanding)
    if options.get("query_model"):
        options["query_model"] = absolute(options["query_model"])
    return SparseEncoder(model, expander=expander, **options)


def absolute(model: str) -> str:
    """A folder's whole path; a Hub name as it is."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def unrecorded(spec: EncoderSpec, options: Mapping[str, Any]) -> list[str]:
    """A line for each of `options` that an index of `spec` was built without, or whose expansion was another."""
    lines = []
    for name in get_type_hints(SparseSettings):
        value = options.get(name)
        if value not in (None, "none", "card") and name not in spec.extra and not hasattr(spec, name):
            lines.append(f"{name}: {value!r} asked for, none recorded")
    expansion = dict(spec.extra.get("expansion") or {})
    for name in EXPANDING:
        value = options.get(name)
        recorded = expansion.get("model" if name == "expand" else name.removeprefix("expand_"))
        if value is not None and name == "expand" and Path(value).expanduser().is_dir():
            value = Path(value).expanduser().resolve().name
        if value is not None and value != recorded:
            lines.append(f"{name}: {value!r} asked for, {recorded!r} recorded")
    return lines


def query_encoder(
    spec: EncoderSpec,
    refuse: Callable[[EncoderSpec], None],
    *,
    model: str | None = None,
    query_model: str | None = None,
    query_terms: int | None = None,
    device: str = "auto",
) -> SparseEncoder:
    """The encoder of queries for an index of `spec`.

    It is the recorded one, or `model` if that is the same (`refuse` raises otherwise). `query_model` is another one over
    the same vocabulary; `query_terms` replaces the recorded number. Raises `InputError` for another vocabulary, and for a
    recorded query model whose weights are not those that were recorded.
    """
    from .card_files import NO_CARD
    from .sparse_encoder import SparseEncoder, refuse_other_vocabulary

    extra = dict(spec.extra) | ({"query_terms": query_terms} if query_terms is not None else {})
    recorded = extra.get("query_model")
    if query_model is not None and absolute(query_model) == recorded:
        query_model = None  # as it was built
    if query_model is None and (recorded is None or model is not None):
        refuse(SparseEncoder.of_spec(spec, model, device=device).spec)
        return SparseEncoder.of_spec(replace(spec, extra=extra), model, device=device)
    limits: dict[str, Any] = (
        {} if query_model is not None else {"max_length": extra.get("query_max_length"), "card": NO_CARD}
    )
    if query_model is None and spec.query_prompt:
        limits["query_prompt"] = spec.query_prompt
    kept = {name: extra[name] for name in ("quantise", "query_terms") if name in extra}
    encoder = SparseEncoder(query_model or str(recorded), device=device, dtype=spec.dtype, **limits, **kept)
    if query_model is None and encoder.checkpoint.digest != extra["query_revision"]:
        raise InputError(
            f"the query encoder {recorded} has the weights {encoder.checkpoint.digest[:12]}…, the index was made for "
            f"{extra['query_revision'][:12]}…: restore them, or name another as query_model"
        )
    refuse_other_vocabulary(encoder, extra["vocabulary"], "documents of the index")
    return encoder
