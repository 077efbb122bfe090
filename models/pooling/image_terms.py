"""Pictures as terms of a vocabulary: a vision encoder and a masked language model's head over its patches (LexLIP)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import torch
from sentence_transformers.base.modules.input_module import InputModule
from torch import nn

from ...errors import InputError

_SETTINGS = "image_terms.json"


class ImageTerms(InputModule):
    """Logits (n, patches, V) of pictures: any vision encoder of transformers (ViT, BEiT, CLIP's), then BERT's head.

    The head is a linear layer, GELU, a layer norm and the output matrix with bias, as LexLIP (ICCV 2023) copies it from
    BERT. The first of the encoder's states ([CLS]) counts like a patch. sentence-transformers' SpladePooling follows:
    the largest logit over patches, ReLU, log(1 + x). `ImageTerms.of(vision, head_of)` makes one of two folders.
    """

    modalities: list[Any] = ["image"]  # noqa: RUF012  as the base class has it
    save_in_root = False

    def __init__(self, vision: nn.Module, processor: Any, vocabulary_size: int) -> None:
        super().__init__()
        config: Any = vision.config
        width = int(config.hidden_size)
        self.model: Any = vision
        self.image_processor = processor
        self.transform, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.output = nn.Linear(width, vocabulary_size)
        self.terms = vocabulary_size
        self.max_seq_length = None

    @classmethod
    def of(cls, vision: str | Path, head_of: str | Path) -> Self:
        """The vision encoder in the folder `vision` beneath the head of the BERT-like masked language model in `head_of`;
        both have to be of one width. Raises `InputError` where they are not."""
        from transformers import AutoModel, AutoModelForMaskedLM

        encoder: Any = AutoModel.from_pretrained(str(vision), local_files_only=True, use_safetensors=True)
        encoder = getattr(encoder, "vision_model", encoder)
        bert: Any = AutoModelForMaskedLM.from_pretrained(str(head_of), local_files_only=True, use_safetensors=True)
        head = bert.cls.predictions
        if head.transform.dense.in_features != encoder.config.hidden_size:
            raise InputError(
                f"the head in {head_of} is {head.transform.dense.in_features} wide, the vision encoder in {vision} "
                f"{encoder.config.hidden_size}: LexLIP's head is copied, so both have to be of one width"
            )
        made = cls(encoder, _processor(str(vision)), head.decoder.out_features)
        made.transform.load_state_dict(head.transform.dense.state_dict())
        made.norm.load_state_dict(head.transform.LayerNorm.state_dict())
        made.output.load_state_dict(head.decoder.state_dict())
        return made

    def get_embedding_dimension(self) -> int:
        return self.terms

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, Any]:
        pixels = self.image_processor(images=list(inputs), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels.to(self.output.weight.dtype)}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        states = self.model(pixel_values=features["pixel_values"]).last_hidden_state
        logits = self.output(self.norm(nn.functional.gelu(self.transform(states))))
        mask = torch.ones(logits.shape[:2], dtype=torch.long, device=logits.device)
        return features | {"token_embeddings": logits, "attention_mask": mask}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.model.config.save_pretrained(Path(output_path) / "vision")
        self.image_processor.save_pretrained(Path(output_path) / "vision")
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        (Path(output_path) / _SETTINGS).write_text(json.dumps({"vocabulary_size": self.terms}))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> Self:
        """From a local folder only. Missing or unexpected weights raise."""
        from transformers import AutoConfig

        folder = Path(model_name_or_path) / subfolder
        settings = json.loads((folder / _SETTINGS).read_text())
        vision = str(folder / "vision")
        made = cls(_network(AutoConfig.from_pretrained(vision)), _processor(vision), int(settings["vocabulary_size"]))
        loaded: Self = cls.load_torch_weights(
            model_name_or_path=model_name_or_path, subfolder=subfolder, local_files_only=True, model=made
        )
        return loaded


def _network(config: Any) -> Any:
    """The vision encoder of a configuration, with random weights."""
    from transformers import AutoModel

    model: Any = AutoModel.from_config(config)
    return getattr(model, "vision_model", model)


def _processor(folder: str) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, local_files_only=True)
