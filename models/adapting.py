"""Gives a loaded sentence-transformers model other settings than its files: pooling, unit vectors, padding, the last token."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from .encoder_settings import EncoderSettings


def adapt(name: str, model: Any, settings: EncoderSettings) -> None:
    """Apply `settings` to `model`, called `name` in errors, in place."""
    if settings.layer is not None or settings.bidirectional is not None:
        from .depth import attend, cut_layers

        if settings.bidirectional is not None:
            attend(name, model, both_ways=settings.bidirectional)
        if settings.layer is not None:
            cut_layers(name, model, settings.layer)
    if settings.pooling is not None or settings.pooled_prompt is not None:
        _set_pooling(name, model, settings.pooling, settings.pooled_prompt)
    if settings.normalise is not None:
        _set_normalisation(model, settings.normalise)
    if settings.similarity is not None:
        model.similarity_fn_name = settings.similarity
    if settings.padding_side is not None:
        _tokenizer(name, model, "padding_side").padding_side = settings.padding_side
    if settings.append_eos is not None:
        append_eos(name, _tokenizer(name, model, "append_eos"), settings.append_eos)


def _set_pooling(name: str, model: Any, pooling: str | None, pooled_prompt: bool | None) -> None:
    """Another mode in the one Pooling module, or a Pooling module after a bare transformer."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    places = [place for place, module in enumerate(model) if isinstance(module, Pooling)]
    if len(places) > 1 or (not places and len(model) > 1):
        kinds = ", ".join(type(module).__name__ for module in model)
        raise UsageError(f"pooling={pooling!r}: {name} has no pooling of its own to replace ({kinds}): leave it out")
    old = model[places[0]] if places else None
    width = old.embedding_dimension if old else model[0].get_embedding_dimension()
    mode = pooling or (old.pooling_mode if old else "mean")
    prompt = pooled_prompt if pooled_prompt is not None else (old.include_prompt if old else True)
    new = Pooling(width, mode, include_prompt=prompt)
    if old is not None and new.pooling_output_dimension != old.pooling_output_dimension:
        raise UsageError(
            f"pooling={pooling!r}: {name} joins several poolings ({'+'.join(old.pooling_mode)}), and what follows expects "
            "as many dimensions: leave it out"
        )
    if places:
        model[places[0]] = new
    else:
        model.append(new)


def _set_normalisation(model: Any, normalise: bool) -> None:
    from sentence_transformers.base.modules import Normalize

    is_last = type(list(model)[-1]).__name__ == "Normalize"
    if normalise and not is_last:
        model.append(Normalize())
    elif is_last and not normalise:
        del model[len(model) - 1]


def _tokenizer(name: str, model: Any, option: str) -> Any:
    if model.tokenizer is None:
        raise UsageError(f"{option}: {name} has no tokenizer: leave it out")
    return model.tokenizer


def append_eos(name: str, tokenizer: Any, wanted: bool) -> None:
    """Let every text end with the end-of-text token, also one that is cut: it counts towards the maximum length.

    The token is the work of the tokenizer's post-processor, so that cutting leaves room for it; upstream code that
    appends its text instead (NV-Embed) loses it wherever it cuts.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UsageError(f"append_eos={wanted}: the tokenizer of {name} has no end-of-text token: leave it out")
    has = tokenizer("a")["input_ids"][-1:] == [eos]
    if has == wanted:
        return
    if not wanted or not getattr(tokenizer, "is_fast", False):
        what = "ends texts with it itself" if has else "is written in Python"
        raise UsageError(f"append_eos={wanted}: the tokenizer of {name} {what}: leave it out")
    from tokenizers.processors import Sequence, TemplateProcessing

    mark = tokenizer.eos_token
    template = {"single": ["$A", mark], "pair": ["$A", mark, "$B:1", f"{mark}:1"]}
    last = TemplateProcessing(**template, special_tokens=[(mark, eos)])
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = last if before is None else Sequence([before, last])
