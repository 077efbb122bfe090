"""From a cosine to the probability that a document is relevant, by a map that depends on the query (Cosine Adapter,
arXiv 2408.04887): a small network reads the query's vector and gives the parameters of a rising function.

The paper names the forms (linear, square root, quadratic, power) and leaves parameters and loss open. Here, with
r = (1 + cosine) / (2 · mean), the share of the mean over the fitting data, and z = (g(r) - 1) / deviation,

    probability = sigmoid(a(q) · z + b(q)),   a(q) > 0,   g(r) = r, √r, r² or r^p(q), p(q) > 0
    (a, b, p) = W2 relu(W1 q + b1) + b2,      a and p through softplus

so that it rises with the cosine whatever the network says, and one threshold on it fits all queries.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..files import write_whole
from ..vectors import EncoderSpec

FORMS = ("linear", "sqrt", "quadratic", "power")

EXPONENTS = {"linear": 1.0, "sqrt": 0.5, "quadratic": 2.0}

_WEIGHTS, _FACTS = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class CosineMap:
    """A fitted map. `weights` are w1 (d, h), b1 (h,), w2 (h, 3), b2 (3,) float32; `mean` and `deviation` those of the
    fitting data; `threshold` is the probability from which on a document counts as relevant. `encoder` is the one whose
    vectors it was fitted on; `facts` say how.
    """

    form: str
    weights: dict[str, np.ndarray]
    mean: float
    deviation: float
    threshold: float
    encoder: EncoderSpec
    facts: dict[str, Any] = field(default_factory=dict)

    def parameters(self, queries: np.ndarray) -> np.ndarray:
        """a, b and p (n, 3) float64 for query vectors (n, d); those of unit length are what it was fitted on."""
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        raw = np.maximum(queries.astype(np.float64) @ w["w1"] + w["b1"], 0.0) @ w["w2"] + w["b2"]
        raw[:, [0, 2]] = np.logaddexp(0.0, raw[:, [0, 2]])
        return raw

    def probabilities(self, parameters: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        """Probabilities (m,) float64 of one query's `cosines` (m,), by its parameters (3,); never falling with them."""
        a, b, p = parameters.tolist()
        share = np.clip((1 + np.asarray(cosines, np.float64)) / 2, 0.0, 1.0) / self.mean
        exponent = EXPONENTS.get(self.form, p)
        with np.errstate(divide="ignore", over="ignore"):
            # an exponent that is so small that it became 0 makes 1 of any share, also of none
            powers = np.exp(np.clip(exponent * np.log(share), -700, 700)) if exponent else np.ones_like(share)
            logits = a * (powers - 1) / self.deviation + b
        return 0.5 * (1 + np.tanh(logits / 2))

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write `adapter.safetensors` and then `adapter.json`, each whole or not at all."""
        from safetensors.numpy import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = save({name: np.ascontiguousarray(value, np.float32) for name, value in self.weights.items()})
        with write_whole(folder / _WEIGHTS) as stream:
            stream.write(data)
        facts = {
            "kind": "cosine-adapter",
            "form": self.form,
            "mean": self.mean,
            "deviation": self.deviation,
            "threshold": self.threshold,
            "encoder": self.encoder.to_json(),
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            "facts": self.facts,
        }
        with write_whole(folder / _FACTS) as stream:
            stream.write(json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def load(cls, folder: str | Path) -> CosineMap:
        """Read a folder that `save` wrote; `InputError` for one that is no adapter or whose files do not belong together."""
        from safetensors.numpy import load

        facts = _read_facts(Path(folder))
        path = Path(folder) / _WEIGHTS
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() != facts["weights_sha256"]:
            raise InputError(f"{path} is not the file that {_FACTS} beside it names: fit the adapter again")
        try:
            encoder = EncoderSpec.from_json(facts["encoder"])
        except UsageError as error:
            raise InputError(f"{Path(folder) / _FACTS}: {error}") from error
        mean, deviation, threshold = (float(facts[name]) for name in ("mean", "deviation", "threshold"))
        return cls(facts["form"], load(data), mean, deviation, threshold, encoder, facts["facts"])


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / _FACTS
    if not path.is_file():
        raise InputError(f"{folder} holds no {_FACTS}: name a folder that `cribble fit cosine-adapter` wrote")
    needed = ("form", "mean", "deviation", "threshold", "encoder", "weights_sha256", "facts")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): fit the adapter again") from error
    missing = [name for name in needed if not isinstance(facts, dict) or name not in facts]
    if missing or facts["form"] not in FORMS:
        raise InputError(f"{path} is no adapter's description ({missing or facts['form']!r}): fit the adapter again")
    return dict(facts)


def digest(folder: str | Path) -> str:
    """SHA-256 of the description, which names the weights' own; "" where there is none yet."""
    path = Path(folder) / _FACTS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
