"""Binary codes of one vector per text: an encoder, a binariser, and an index of packed codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError, SetupError, UsageError, suggest
from ..index.binary_files import IDENTITY, same_binariser
from ..index.binary_options import BINARY_OPTIONS
from ..index.binary_writer import WithCodes
from ..index.manifest import read_manifest
from ..index.opening import find_kind
from ..models.encoders import ENCODING_OPTIONS, make_encoder
from ..records import Document, Query, Run
from ..registry import register
from ..stage import Retriever
from .filtered import Ids
from .indexed import Indexed
from .recorded import build_encoded, recorded_encoder

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..index.binary_rotations import Binariser
    from ..models.encoder import Encoder
    from ..models.remote_encoder import RemoteEncoder
    from ..vectors import Dense, EncoderSpec

#: What a search takes besides filters, where the index's structure has it.
_SEARCH = ("verify", "nprobe", "ef", "query_bits")


@register("binary")
@dataclass
class BinaryRetriever(Indexed, Retriever):
    """The documents whose packed codes are nearest to the query's, and with `verify` the nearest of those by their vectors.

    `index` is a folder made by `BinaryRetriever.build` or `cribble index`, of a kind that says what makes the codes:
    `sign`, `lsh` and `itq` make a bit a coordinate by a rotation; `bebr` several by a trained model, the folder
    `binariser` (by default the one that made the newest codes). One whose codes can't be compared with those of the index
    is refused. `model` is the encoder, by default the one that the index records, or that of whose vectors a newer
    binariser was trained. `device` is auto, cpu or cuda. The best `k` documents are found.

    Where these are not given, searches go by rule, and each is refused where it has no effect: `verify` candidates are
    scored exactly by their stored vectors (true: 10 · k, at most 1,000); `nprobe` inverted lists are scanned; a graph's
    search keeps `ef` nodes; a query's code has `query_bits` bits a coordinate (1; more are slower and closer to its
    vector).
    """

    index: str | Path
    k: int = 1000
    model: str | None = None
    device: str = "auto"
    binariser: str | None = None
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    verify: int | bool | None = None
    nprobe: int | None = None
    ef: int | None = None
    query_bits: int | None = None
    score_kind: str = field(default="", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = ("sign", "lsh", "itq", "bebr")
    build_options: ClassVar[Mapping[str, Any]] = {
        "kind": str,
        **ENCODING_OPTIONS,
        **BINARY_OPTIONS,
        "binariser": str | None,
        "similarity": str | None,
        "storage": str,
        "shard_documents": int,
    }
    shared_options: ClassVar[tuple[str, ...]] = ("model", "device")

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        kind = options.pop("kind", "sign")
        if kind not in cls.index_kinds:
            raise UsageError(f"binary index: kind {kind!r} is unknown: {suggest(kind, cls.index_kinds)}")
        folder = options.pop("binariser", None)
        if kind == "bebr" and folder is None:
            raise UsageError("bebr index needs the option 'binariser', a folder that `cribble train bebr` made")
        if kind != "bebr" and folder is not None:
            raise UsageError(f"{kind} index has no option 'binariser': it makes its codes itself")
        binariser = open_binariser(folder) if folder is not None else None
        encoding = {name: options.pop(name) for name in (*cls.shared_options, *ENCODING_OPTIONS) if name in options}
        encoder = make_encoder(**encoding)
        encode = encoder.encode_documents
        build_encoded(
            find_kind(kind),
            dataset,
            path,
            encoder,
            options,
            overwrite=overwrite,
            encode=encode if binariser is None else WithCodes(encode, binariser),
        )

    @classmethod
    def _refuse_another(cls, dataset: Dataset, path: Path, options: Mapping[str, Any]) -> None:
        if folder := options.get("binariser"):
            identity = open_binariser(folder).identity
            options = {**options, "binariser": {part: identity[part] for part in IDENTITY}}
        super()._refuse_another(dataset, path, options)

    def open_index(self) -> Any:
        kind = read_manifest(self.index).kind
        if kind not in self.index_kinds:
            raise InputError(f"{self.index}: an index of kind {kind!r}, expected one of codes: name another folder")
        index = find_kind(kind).open(self.index, device=self._first_device)
        index.check_parameters(self.parameters)
        if kind == "bebr":
            index.use(open_binariser(self.binariser or _newest_folder(index)))
        elif self.binariser is not None:
            raise UsageError(
                f"binariser has no effect: {self.index} is of the kind {kind}, which makes its codes itself"
            )
        return index

    @property
    def _first_device(self) -> str:
        return "cuda:0" if self.device == "cuda:all" else self.device.partition(",")[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a search that are given."""
        return {name: getattr(self, name) for name in _SEARCH if getattr(self, name) is not None}

    @cached_property
    def newer_encoder(self) -> Mapping[str, Any] | None:
        """Model and revision of the encoder whose vectors the `binariser` was trained on, where it is not the one that made
        the first codes and neither is the encoder."""
        index = self.opened
        if index.registered_name != "bebr" or same_binariser(
            index.binariser.identity, index.manifest.options["binariser"]
        ):
            return None
        said: Mapping[str, Any] | None = index.binariser.training.get("facts", {}).get("encoder")
        return said if said and said["revision"] != index.manifest.encoder.revision else None

    @cached_property
    def encoder(self) -> Encoder | RemoteEncoder:
        """The encoder of the queries: that which the index records, with its prompts and lengths, or, of a newer binariser
        that was trained on another one's vectors, that one."""
        newer = self.newer_encoder
        if newer is None:
            return recorded_encoder(self.index, self.opened.manifest.encoder, self.model, self._first_device)
        made = make_encoder(self.model or newer["model"], device=self._first_device)
        if made.spec.revision != newer["revision"]:
            raise InputError(
                f"{self.index}: the binariser takes vectors of another encoder (encoder.revision: {made.spec.revision!r} asked "
                f"for, {newer['revision']!r} recorded, {newer['model']}): name that one as model"
            )
        return made

    def query_vectors(self, queries: list[Query]) -> Dense:
        """The encoder's vectors (n, d) of the queries; raises `InputError` where the index is of another encoder."""
        self._refuse_other_encoder()
        return self.encoder.encode_queries([query.text for query in queries])

    def _refuse_other_encoder(self) -> None:
        if self.newer_encoder is None:
            self.opened.refuse_other_encoder(self.encoder.spec)
        elif self.verify:
            raise UsageError(
                f"{self.index}: verify compares with vectors of {self.opened.manifest.encoder.model}, the queries' are of "
                f"{self.newer_encoder['model']}: leave verify out"
            )

    def search_vectors(self, queries: list[Query], vectors: Dense, k: int) -> Run:
        """The best `k` documents for each query by its vector in `vectors`, whoever made it."""
        found = self.opened.search(vectors, k, **self.filters, **self.parameters)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name=self.label, score_kind=self.opened.score_kind)

    def retrieve(self, queries: list[Query], k: int) -> Run:
        self.check_filters()
        if not queries:
            self._refuse_other_encoder()
            return Run.from_rankings([], name=self.label, score_kind=self.opened.score_kind)
        return self.search_vectors(queries, self.query_vectors(queries), k)

    def encoding(self) -> Callable[[list[Document]], Dense]:
        """Of a bebr index also how vectors become codes: by the `binariser`, which may be newer than the one whose codes are
        there, and compatible with it."""
        encode = super().encoding()
        if self.opened.registered_name != "bebr":
            return encode
        return WithCodes(encode, self.opened.binariser, self.encoder.spec.dim)

    def spec_of_additions(self) -> EncoderSpec:
        """Where no vectors are stored, documents of a newer encoder may join: their codes are compatible."""
        index = self.opened
        recorded: EncoderSpec = index.manifest.encoder
        mixes = self.newer_encoder is not None and not index.manifest.options["vectors"]
        return recorded if mixes else super().spec_of_additions()


def _newest_folder(index: Any) -> str:
    """Where the model lay that made the codes of the last rows."""
    folder: str = index.binarisers[-1].get("folder", "")
    if not Path(folder).is_dir():
        raise SetupError(
            f"{index.path} was made by the binariser in {folder!r}, which is not there: name its folder as binariser"
        )
    return folder


def open_binariser(folder: str | Path) -> Binariser:
    """The trained binariser in `folder`."""
    from ..models.recurrent_binarisation import RecurrentBinariser

    return RecurrentBinariser.load(folder)
