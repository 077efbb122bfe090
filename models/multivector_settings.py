"""How a late-interaction checkpoint is run: what was asked for, and what its own files say."""

from __future__ import annotations

import copy
import string
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from ..errors import UsageError, suggest
from ..registry import check_type

#: How queries are filled up: not at all; with [MASK] tokens that are scored and not attended to; with such that are both; with
#: eight of these after every query, as one checkpoint was trained (margin_mse_colbert.py).
EXPANSIONS = ("none", "masked", "attended", "appended")

#: Which of a document's tokens are left out of its vectors.
SKIPS = ("none", "punctuation")


@dataclass(frozen=True)
class MultiVectorSettings:
    """What of a late-interaction checkpoint is set; None leaves it as its files say.

    `query_prompt` and `document_prompt` stand before every text (the markers, such as `[unused0] `). `query_length` and
    `document_length` are tokens after which a text is cut; with an expansion every query has `query_length` of them.
    `expansion` fills queries up: none, masked (ColBERT: scored, not attended to), attended, or appended (eight more, only of a
    checkpoint that was trained so). `skip` leaves tokens out of documents: none, or punctuation.
    """

    query_prompt: str | None = None
    document_prompt: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    expansion: str | None = None
    skip: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("expansion", EXPANSIONS), ("skip", SKIPS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"{name} {value!r} is unknown: {suggest(str(value), known)}")
        for name in ("query_length", "document_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: expected at least 1 token")

    def named(self) -> dict[str, Any]:
        """Those that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def given_settings(options: Mapping[str, Any]) -> MultiVectorSettings:
    """The settings that a user gives by name; another name or a value of a wrong type raises `UsageError`."""
    kinds = get_type_hints(MultiVectorSettings)
    for name, value in options.items():
        if name not in kinds:
            raise UsageError(f"the late-interaction encoder has no option {name!r}: {suggest(name, kinds)}")
        check_type(f"late-interaction encoder: {name}", value, kinds[name])
    return MultiVectorSettings(**options)


def own_settings(model: Any) -> MultiVectorSettings:
    """What a loaded model does, in these terms; a skip list that is neither of `SKIPS` is None, and so is no limit."""
    first, mask = model[0], mask_of(model)
    expansion = first.query_expansion
    words = list(mask.skiplist_words) if mask is not None else []
    known = {(): "none", tuple(string.punctuation): "punctuation"}
    return MultiVectorSettings(
        query_prompt=prompt_of(model, "query"),
        document_prompt=prompt_of(model, "document", "passage", "corpus"),
        query_length=expansion["length"] if expansion else first.query_length,
        document_length=first.document_length,
        expansion=_expansion(model),
        skip=known.get(tuple(words)),
    )


def _expansion(model: Any) -> str:
    expansion = model[0].query_expansion
    if not expansion:
        return "appended" if appended_masks(model) else "none"
    return "attended" if expansion["attend"] else "masked"


def appended_masks(model: Any) -> int:
    """[MASK] tokens that a loaded model wants after every query."""
    return int(getattr(model, "appended_masks", 0))


def prompt_of(model: Any, *names: str) -> str:
    """The prompt that sentence-transformers puts before texts of the task: that of the first name there is, or none."""
    for name in names:
        if name in model.prompts:
            return model.prompts[name] or ""
    return model.prompts.get(model.default_prompt_name) or ""


def mask_of(model: Any) -> Any:
    """The module that says which tokens count, or None."""
    return next((module for module in model if type(module).__name__ == "MultiVectorMask"), None)


def renders_queries_only(model: Any) -> bool:
    """Whether the model is one of transformers' retrievers of pages (ColPali, ColQwen2), whose processors make a query of
    every text: sentence-transformers 6.2, base/modules/transformer.py, `transformer_task`."""
    return getattr(model[0], "transformer_task", "") == "retrieval"


def unit_length(model: Any) -> bool:
    """Whether the vectors have unit length: by the last module, or within transformers' retrievers of pages."""
    last = type(list(model)[-1]).__name__
    return last == "Normalize" or (renders_queries_only(model) and last == "MultiVectorMask")


def adapted(name: str, model: Any, settings: MultiVectorSettings, *, expanding: bool) -> Any:
    """`model` as `settings` say, over the same weights; models are shared, so its modules are copied.

    Without `expanding` it is for documents only: what does not expand can be tokenised without padding.
    """
    model.__dict__.setdefault("_tokenizer_lock", threading.Lock())  # one for all copies, as they share the tokenizer
    copied = copy.copy(model)
    copied._modules = OrderedDict((key, copy.copy(module)) for key, module in model._modules.items())
    own, first = own_settings(model), copied[0]
    _refuse_too_long(name, model, settings)
    _refuse_of_pages(name, model, settings, own)
    expansion, length = settings.expansion or own.expansion, settings.query_length or own.query_length
    if expansion == "appended" and own.expansion != expansion:
        raise UsageError(f"expansion='appended': {name} was not trained so; use masked or attended")
    if appended_masks(model) and (expansion != "appended" or not expanding):
        copied.appended_masks = 0
    if (expansion, length) != (own.expansion, own.query_length):
        former = first.query_expansion or {"strategy": "fixed"}
        first.query_expansion = None
        filled = expansion in ("masked", "attended")
        first.query_length = None if filled else length
        if filled:
            first.query_expansion = {**former, "length": length or 32, "attend": expansion == "attended"}
    if not expanding:
        first.query_expansion = None
    if settings.document_length is not None:
        first.document_length = settings.document_length
    if settings.skip is not None and settings.skip != own.skip:
        mask = mask_of(copied)
        if mask is None:
            raise UsageError(f"skip={settings.skip!r}: {name} has no module that leaves tokens out")
        mask.skiplist_words = list(string.punctuation) if settings.skip == "punctuation" else []
        mask.resolve_with_tokenizer(model.tokenizer)
    return copied


def _refuse_of_pages(name: str, model: Any, settings: MultiVectorSettings, own: MultiVectorSettings) -> None:
    """A processor of pictures and texts lays out pages and queries itself, and says what of them counts."""
    if not model.supports("image"):
        return
    for what, value in settings.named().items():
        prompt = what == "query_prompt" or (what == "document_prompt" and not renders_queries_only(model))
        if not prompt and value != getattr(own, what):
            raise UsageError(
                f"{what}={value!r}: {name} reads pages by a processor of its own, which sets that: leave it out"
            )


def _refuse_too_long(name: str, model: Any, settings: MultiVectorSettings) -> None:
    positions = getattr(getattr(model.transformers_model, "config", None), "max_position_embeddings", None)
    for what in ("query_length", "document_length"):
        length, more = getattr(settings, what), appended_masks(model) if what == "query_length" else 0
        if length is not None and isinstance(positions, int) and 0 < positions - more < length:
            raise UsageError(f"{what}={length}: {name} has {positions - more} positions; use at most that")


SETTINGS = tuple(f.name for f in fields(MultiVectorSettings))
