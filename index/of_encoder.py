"""What the kinds have in common whose vectors an encoder made."""

from __future__ import annotations

from pathlib import Path

from ..vectors import EncoderSpec
from .manifest import Manifest


class OfEncoder:
    """An index at `path` whose manifest records the encoder."""

    path: Path
    manifest: Manifest

    def refuse_other_encoder(self, spec: EncoderSpec) -> None:
        """Raise `InputError` with both values when `spec` differs from the recorded encoder."""
        self.manifest.require_encoder(spec, self.path)

    def __len__(self) -> int:
        return self.manifest.documents
