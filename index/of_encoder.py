"""What the kinds have in common whose vectors an encoder made."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from ..vectors import EncoderSpec
from .manifest import Manifest, check_index


class OfEncoder:
    """An index at `path` whose manifest records the encoder."""

    registered_name: ClassVar[str]
    path: Path
    manifest: Manifest

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path, *, spec: EncoderSpec | None = None, verify: bool | None = None) -> Self:
        """Open a whole index; its files are mapped, and read as they are searched (`verify`: see `check_index`).

        `spec` is the encoder that queries will come from; another one than recorded raises `InputError`.
        """
        return cls(Path(path), check_index(path, kind=cls.registered_name, verify=verify)).fitting(spec)

    def fitting(self, spec: EncoderSpec | None) -> Self:
        """This index, if its recorded encoder is `spec` or that is None, else `InputError`."""
        if spec is not None:
            self.refuse_other_encoder(spec)
        return self

    def refuse_other_encoder(self, spec: EncoderSpec) -> None:
        """Raise `InputError` with both values when `spec` differs from the recorded encoder."""
        self.manifest.require_encoder(spec, self.path)

    def __len__(self) -> int:
        return self.manifest.documents
