"""What the retrievers over one index folder share: building it, opening it once, its identity, its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import SetupError, UsageError, suggest
from ..index.build import fingerprint
from ..index.changes import Change, add_documents, compact_index, count_additions, delete_documents, tidy
from ..index.filtering import rows_where
from ..index.manifest import MANIFEST, read_manifest
from ..models.encoders import ENCODING_OPTIONS
from ..records import Document, TextSource
from ..registry import check_type, make, option_names
from .filtered import Ids, filter_artifacts, read_filters

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..vectors import EncoderSpec


class Indexed:
    """Mixin of a retriever dataclass with a field `index`, the folder of a durable index.

    Its fields `allow` and `deny` name the only documents to be found, or those not to be: a list of ids, or a file with
    one a line. `where` is a condition on the documents' metadata, in SQL: `year >= 2020 and source = 'x'`.
    """

    index: str | Path
    allow: Ids
    deny: Ids
    where: str | None
    registered_name: ClassVar[str]
    #: Kinds of index (as manifests name them) that this retriever searches.
    index_kinds: ClassVar[tuple[str, ...]] = ()
    #: Options of building the index, beside the retriever's own ones, and the types of their values.
    build_options: ClassVar[Mapping[str, Any]] = {}
    #: The retriever's options that the build needs too (the model that encodes).
    shared_options: ClassVar[tuple[str, ...]] = ()

    def open_index(self) -> Any:
        raise NotImplementedError

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        """Build the durable index of a dataset's documents in `path`, with some of `build_options`."""
        raise NotImplementedError

    @classmethod
    def build(cls, dataset: Dataset, path: str | Path, *, overwrite: bool = False, **options: Any) -> Self:
        """Build the index of a dataset's documents in the folder `path`, and return the retriever over it.

        A killed build goes on where it stopped. An index that is whole is used, after a look at the documents, or
        refused with `SetupError` where it is of others or was built with other options. `options` are the build's
        (`build_options`) and the retriever's own; any other raises `UsageError`.
        """
        own = set(option_names(cls)) - {"index"}
        cls.check_build_options(options, own)
        chosen = {name: value for name, value in options.items() if name in own}
        retriever: Self = make("retrievers", cls.registered_name, {"index": path} | chosen)
        building = {name: options[name] for name in (*cls.build_options, *cls.shared_options) if name in options}
        if (Path(path) / MANIFEST).exists() and not overwrite:
            cls._refuse_another(dataset, Path(path), building)
        else:
            cls.build_index(dataset, path, overwrite=overwrite, options=building)
        return retriever

    @classmethod
    def _refuse_another(cls, dataset: Dataset, path: Path, options: Mapping[str, Any]) -> None:
        """Raise unless the whole index in `path` is of these documents and, as far as they are given, these options.

        A model is not looked at here: the retriever refuses one that is not the recorded encoder when it is loaded.
        """
        manifest = read_manifest(path)
        recorded: dict[str, Any] = {}
        if manifest.encoder is not None:
            recorded |= dict.fromkeys(ENCODING_OPTIONS.keys() - {"card", "trust_remote_code"})
            recorded |= {name: value for name, value in manifest.encoder.to_json().items() if name != "model"}
            recorded |= manifest.encoder.extra
        # After the encoder's, whose similarity a build may replace.
        recorded |= {"shard_documents": manifest.plan.shard_documents, **manifest.options, "kind": manifest.kind}
        lines = [
            f"{name}: {value!r} asked for, {recorded[name]!r} recorded"
            for name, value in options.items()
            if name in recorded and value is not None and recorded[name] != value
        ]
        if manifest.kind not in cls.index_kinds:
            lines = [f"kind: {' or '.join(cls.index_kinds)} asked for, {manifest.kind} recorded"]
        elif fingerprint(dataset.documents(), dataset.id) != manifest.fingerprint:
            lines.append("its documents are others")
        if lines:
            raise SetupError(
                f"{path}: another index is here already ({'; '.join(lines)}): choose another folder, or build with overwrite"
            )

    @classmethod
    def check_build_options(cls, options: Mapping[str, Any], own: Iterable[str] = ()) -> None:
        """Refuse names that are no option of the build (or among `own`), and values of a wrong type."""
        known = {*cls.build_options, *own}
        for name, value in options.items():
            if name not in known:
                raise UsageError(f"{cls.registered_name} index has no option {name!r}: {suggest(name, known)}")
            if name in cls.build_options:
                check_type(f"{cls.registered_name} index: {name}", value, cls.build_options[name])

    @cached_property
    def opened(self) -> Any:
        """The index, opened at first use."""
        return self.open_index()

    def artifacts(self) -> dict[str, str]:
        """SHA-256 of the index's manifest and of the files of ids that limit the search."""
        manifest = Path(self.index) / "manifest.json"
        index = {"index": hashlib.sha256(manifest.read_bytes()).hexdigest()} if manifest.exists() else {}
        return index | filter_artifacts(self)

    @cached_property
    def filters(self) -> dict[str, Any]:
        """`allow`, `deny` and `where` as the index's `search` takes them, read at first use."""
        return read_filters(self)

    def check_filters(self) -> None:
        """Raise for a file of ids or a condition that can't be used, before a model is loaded."""
        if "where" in self.filters:
            rows_where(self.opened.texts, self.filters["where"])

    def add(self, dataset: Dataset, *, replacing: bool = False, dry_run: bool = False) -> Change:
        """Add a dataset's documents by the recorded encoder; see `index.changes.add_documents`."""
        would = count_additions(self.index, dataset.documents, dataset.id, replacing=replacing)
        if dry_run:  # and what is refused is refused before a model is loaded
            return would
        encoder: Any = self.encoder  # type: ignore[attr-defined]  # a kind that can be changed has one
        change = add_documents(
            self.index,
            dataset.documents,
            self.encoding(),
            spec=self.spec_of_additions(),
            corpus=dataset.id,
            truncated=lambda: encoder.truncated,
            replacing=replacing,
        )
        return self._changed(change)

    def encoding(self) -> Callable[[list[Document]], Any]:
        """How documents that are added become vectors."""
        encode: Callable[[list[Document]], Any] = self.encoder.encode_documents  # type: ignore[attr-defined]
        return encode

    def spec_of_additions(self) -> EncoderSpec:
        """The encoder of documents that are added, which must be the one that the index records."""
        spec: EncoderSpec = self.encoder.spec  # type: ignore[attr-defined]
        return spec

    def delete(self, ids: Collection[str], *, ignore_unknown: bool = False, dry_run: bool = False) -> Change:
        """Delete documents by id; see `index.changes.delete_documents`."""
        return self._changed(delete_documents(self.index, ids, ignore_unknown=ignore_unknown, dry_run=dry_run))

    def compact(self, *, dry_run: bool = False) -> Change:
        """Rewrite the index without its deleted documents; see `index.changes.compact_index`."""
        return self._changed(compact_index(self.index, dry_run=dry_run))

    def _changed(self, change: Change) -> Change:
        """The next search opens the new generation."""
        if self.__dict__.pop("opened", None) is not None:
            tidy(self.index)
        return change

    def texts(self) -> TextSource | None:
        """The index's own text store."""
        store: TextSource = self.opened.texts
        return store
