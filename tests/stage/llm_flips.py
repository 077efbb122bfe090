"""Options of the LLM rerankers for the contract: what each needs at least, another value for each, and what that does.

The models are tiny and random, the candidates few. Judges whose answers a random model can't write run constrained, or by
logits; what such a model writes freely is no answer, which leaves the order as it is and shows in the costs.
"""

from __future__ import annotations

import json
from pathlib import Path

from cribble.tests.models.tiny_language_models import save_language_model
from cribble.tests.stage.flips import COST, COSTS, RAISES, Flip

#: Reranker → (kind of tiny model, options that it gets in every test).
NEEDS: dict[str, tuple[str, dict]] = {
    "first": ("qwen2", {}),
    "icr": ("llama", {}),
    "llm": ("qwen2", {"judge": "first", "strategy": "sliding"}),
    "rankgpt": ("qwen2", {"constrained": True}),
    "fullrank": ("qwen2", {"constrained": True}),
    "tourrank": ("qwen2", {"constrained": True}),
    "prp-allpair": ("qwen2", {"mode": "scoring"}),
    "prp-heapsort": ("qwen2", {"mode": "scoring"}),
    "prp-sliding": ("qwen2", {"mode": "scoring"}),
    "setwise": ("qwen2", {"mode": "likelihood"}),
    "yes-no": ("qwen3", {}),
    "query-likelihood": ("llama", {}),
    "monot5": ("t5", {}),
    "rankt5": ("t5", {"labels": ["true"]}),  # the tiny tokenizer has no <extra_id_10>
    "duot5": ("t5", {}),
    "rank1": ("qwen2", {"thinking_tokens": 3}),
    "rank-r1": ("qwen2", {"thinking_tokens": 3}),
}
JUDGES = {
    "llm": "first",
    "rankgpt": "generate",
    "fullrank": "generate",
    "tourrank": "generate",
    "prp-allpair": "prp",
    "prp-heapsort": "prp",
    "prp-sliding": "prp",
}


def save_models(folder: Path) -> dict[str, str]:
    """Kind → folder of a model that has room for long prompts; `KIND-other` is the same with other weights."""
    import torch
    import transformers

    found = {}
    for kind in sorted({kind for kind, _ in NEEDS.values()}):
        path = save_language_model(folder / kind, kind)
        config = json.loads((path / "config.json").read_text())
        if "max_position_embeddings" in config:
            (path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
        found[kind] = str(path)
        other = folder / f"{kind}-other"
        library = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
        model = library.from_pretrained(path)
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        model.save_pretrained(other)
        transformers.AutoTokenizer.from_pretrained(path).save_pretrained(other)
        found[f"{kind}-other"] = str(other)
    return found


def base_options(name: str, models: dict[str, str], ledger: str) -> dict:
    kind, more = NEEDS[name]
    return {"model": models[kind], "backend": {"use": "hf", "device": "cpu"}, "ledger": ledger} | more


def card(name: str):
    """A function of the world that writes a card by which passages are cut at one word."""

    def write(world):
        path = Path(world.folder, f"{name}.yaml")
        path.write_text(f"judge: {{use: {JUDGES.get(name, name)}, words: 1}}\n")
        return str(path)

    return write


def _common(name: str) -> dict[str, Flip]:
    kind, _ = NEEDS[name]
    return {
        "model": Flip(lambda world: world.language[f"{kind}-other"]),
        "depth": Flip(2),
        "backend": Flip(
            {"use": "hf", "device": "cpu", "token_budget": 64, "share_prefix": False}, COST, "other batches"
        ),
        "card": Flip(card(name), COSTS),
        "ledger": Flip("off", COST, "judgements are asked for again"),
        "max_repair_rate": Flip(0.0, COST, "a budget, nothing is repaired here: tests/cli shows it spent"),
    }


_WINDOWS = {
    "window": Flip(3, COSTS),
    "stride": Flip(1, COSTS, given={"window": 4}),
    "passes": Flip(2, COSTS),
    "compat": Flip("rankgpt", COSTS),
}
_SAMPLED = {"temperature": 9.0}
_WRITTEN = {
    "ids": Flip("letters"),
    "words": Flip(1, COSTS),
    "constrained": Flip(False, COSTS),
    "forced_length": Flip(False, RAISES, "constrained"),
    "thinking_tokens": Flip(5, RAISES, "constrained"),
    "temperature": Flip(9.0),
    "seed": Flip(3, given=_SAMPLED),
}
_SORTED_PAIRS = {
    "template": Flip("prp-paper", COSTS),
    "mode": Flip("generate", COSTS),
    "words": Flip(1, COSTS),
    "k": Flip(1, COSTS),
    "compat": Flip("ielab", COSTS, given={"mode": "generate"}),
}
_BEST_OF = {
    "sort": Flip("bubble", COSTS),
    "num_children": Flip(1, COSTS),
    "k": Flip(1, COSTS),
    "compat": Flip("ielab", RAISES, "no option 'compat'"),
    "words": Flip(1, COSTS),
}

LLM_FLIPS: dict[str, dict[str, Flip]] = {
    "first": _WINDOWS | {"template": Flip("first-original", COSTS), "ids": Flip("numbers"), "words": Flip(1, COSTS)},
    "icr": {
        "template": Flip("icr-llama-qa", COSTS),
        "words": Flip(1, COSTS),
        "reverse": Flip(False),
        "heads": Flip([[0, 1]]),
    },
    "llm": {"judge": Flip("generate", COSTS), "strategy": Flip({"use": "sliding", "window": 2, "stride": 1}, COSTS)},
    "rankgpt": _WINDOWS | _WRITTEN | {"template": Flip("rankzephyr", COSTS)},
    "fullrank": _WRITTEN | {"template": Flip("rankzephyr", COSTS), "top": Flip(1, COSTS)},
    "tourrank": _WRITTEN
    | {
        "template": Flip("rankgpt", COSTS),
        "repeats": Flip(2, COSTS),
        "shuffle_seed": Flip(3, given={"repeats": 2}),
    },
    "prp-allpair": {name: _SORTED_PAIRS[name] for name in ("template", "mode", "words")},
    "prp-heapsort": _SORTED_PAIRS,
    "prp-sliding": _SORTED_PAIRS,
    "duot5": {
        "template": Flip("duot5-rankllm", COSTS),
        "labels": Flip(["yes", "no"]),
        "words": Flip(1, COSTS),
        "aggregate": Flip("wins"),
    },
    "setwise": _BEST_OF
    | {
        "template": Flip("setwise-openai", COSTS),
        "mode": Flip("generate", COSTS),
        "permutations": Flip(3, COSTS, given={"mode": "generate"}),
        "seed": Flip(1, COSTS, given={"permutations": 3}),
    },
    "rank-r1": _BEST_OF | {"template": Flip("rank-r1-v0.2", COSTS), "thinking_tokens": Flip(5, COSTS)},
    "yes-no": {
        "template": Flip("yes-no-chat", COSTS, given={"labels": ["yes", "no"]}),
        "words": Flip(1, COSTS),
        "labels": Flip(["no", "yes"]),
        "instruction": Flip("find the river", COSTS),
        "scores": Flip("prob"),
    },
    "monot5": {"template": Flip("monot5-rankllm", COSTS), "words": Flip(1, COSTS), "labels": Flip(["yes", "no"])},
    "rankt5": {"template": Flip("monot5", COSTS), "words": Flip(1, COSTS), "labels": Flip(["yes"])},
    "query-likelihood": {"template": Flip("upr", COSTS), "words": Flip(1, COSTS)},
    "rank1": {
        "template": Flip("nowhere", RAISES, "unknown"),
        "words": Flip(1, COSTS),
        "instruction": Flip("find the river", COSTS),
        "thinking_tokens": Flip(5, COSTS),
    },
}
LLM_FLIPS = {name: _common(name) | flips for name, flips in LLM_FLIPS.items()}
LLM_FLIPS["rank-r1"] |= {
    "model": Flip(lambda world: world.language["qwen2-other"], COST, "what random models write is no answer"),
    "max_repair_rate": Flip(0.0, RAISES, "more than the budget"),
}
