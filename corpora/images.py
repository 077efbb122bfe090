"""`images:PATH`: pictures as documents, of a folder or listed in JSON lines. Their ids are their paths, or given."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..records import DescribedDocument, Document, metadata_of
from .dataset import Dataset
from .document_stream import DocumentStream, Record
from .json_lines import JsonLines
from .jsonl import ID_FIELDS

logger = logging.getLogger("cribble")

#: Endings of the files that a folder's pictures are looked for in.
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
#: The metadata that holds a document's file; encoders of images read it.
IMAGE = "image_file"


def load_images(path: Path) -> Dataset:
    """The pictures under the folder `path`, by their paths in it; or those that a JSON-lines file lists, a line each:
    `id` (or `_id`, `docid`) and `image`, a path from that file's folder; other fields are metadata.

    A document's text is the path, its metadata `image_file` the whole path. A file that is missing or no readable image is left out
    and counted in a warning that names the first; if none is left, that is an `InputError`.
    """
    if not path.exists():
        raise InputError(f"images:{path}: does not exist: name a folder of pictures, or JSON lines with id and image")
    documents = _Folder(path) if path.is_dir() else _Listed(path)
    return Dataset(
        f"images:{path}",
        [],
        open_documents=documents.__iter__,
        description="pictures by their files",
        version=documents.version,
    )


class _Images(DocumentStream):
    """Checks each picture by decoding it once."""

    def candidates(self, remarks: Counter[str]) -> Iterator[Record]:
        """Documents with the metadata `image_file`, whether or not the file is one."""
        raise NotImplementedError

    def records(self, remarks: Counter[str]) -> Iterator[Record]:
        broken, first = 0, ""
        for record in self.candidates(remarks):
            if reason := unreadable(Path(metadata_of(record.document)[IMAGE])):
                broken, first = broken + 1, first or f"{metadata_of(record.document)[IMAGE]}: {reason}"
                continue
            yield record
        if broken and not self._remarked:
            logger.warning(
                "images:%s: %d files are missing or no readable images and are left out (%s)", self.path, broken, first
            )


class _Folder(_Images):
    @property
    def files(self) -> list[Path]:
        found = (path for path in self.path.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
        return sorted(found, key=lambda path: path.relative_to(self.path).as_posix())

    def candidates(self, remarks: Counter[str]) -> Iterator[Record]:
        for number, file in enumerate(self.files, 1):
            name = file.relative_to(self.path).as_posix()
            yield Record(file, number, 0, _document(name, name, file, {}))


class _Listed(_Images):
    def candidates(self, remarks: Counter[str]) -> Iterator[Record]:
        for record in JsonLines(self.path, ID_FIELDS, ("image",), ()).records(remarks):
            named = record.document.text
            document = _document(record.document.id, named, self.path.parent / named, metadata_of(record.document))
            yield record._replace(document=document)


def _document(document_id: str, text: str, file: Path, metadata: Mapping[str, Any]) -> Document:
    return DescribedDocument.of(Document(document_id, text), {**metadata, IMAGE: str(file.absolute())})


def unreadable(file: Path) -> str:
    """Why a file can't be decoded as an image, "" when it can."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
    except Exception as error:  # decoders raise almost any class for broken data
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""
