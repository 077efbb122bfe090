"""A sentence-transformers module whose constructor's arguments and weights are all there is to save."""

from __future__ import annotations

from typing import Any, Self

from sentence_transformers.base.modules.module import Module

_PLACES = ("subfolder", "token", "cache_folder", "revision", "local_files_only")


class SavedModule(Module):
    """`config_keys` are the constructor's arguments; weights go into model.safetensors beside them."""

    embedding_dimension: int

    def get_embedding_dimension(self) -> int:
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Self:
        """Missing or unexpected weights raise; they are never random numbers in silence."""
        place: dict[str, Any] = dict(zip(_PLACES, args, strict=False))
        place |= {name: kwargs[name] for name in _PLACES if name in kwargs}
        module = cls(**cls.load_config(model_name_or_path=model_name_or_path, **place))
        loaded: Self = cls.load_torch_weights(model_name_or_path=model_name_or_path, model=module, **place)
        return loaded
