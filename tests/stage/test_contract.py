"""What every registered retriever and reranker promises: an accepted option has an effect, or raises; nothing is lost.

Stages are found through the registry. A new one needs an entry in `base_options` and `FLIPS`, a new option one in `FLIPS`.
"""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import CribbleError, InputError, SetupError, UsageError
from cribble.records import DescribedDocument, Document, Query, Run
from cribble.registry import entries, find, make, option_names
from cribble.rerankers.maxsim import MaxSim
from cribble.retrievers.binary import BinaryRetriever
from cribble.retrievers.bm25 import BM25
from cribble.retrievers.colberter import ColberterRetriever
from cribble.retrievers.dense import DenseRetriever
from cribble.retrievers.late import LateRetriever
from cribble.retrievers.sparse import SparseRetriever
from cribble.tests.models.conftest import save_encoder
from cribble.tests.models.sparse_models import save_mlm_pair, save_query_vectors
from cribble.tests.models.tiny_colberter import save_backbone, save_colberter
from cribble.tests.rerankers.conftest import save_model
from cribble.tests.retrievers.adapters import save_adapter
from cribble.tests.retrievers.binarisers import save_binariser
from cribble.tests.stage.flips import COST, COSTS, RAISES, Flip
from cribble.tests.stage.llm_flips import LLM_FLIPS, base_options, save_models

RETRIEVERS, RERANKERS = tuple(entries("retrievers")), tuple(entries("rerankers"))
#: Rerankers that score each document by itself, whatever stands beside it.
ONE_BY_ONE = ("maxsim", "cross-encoder", "yes-no", "monot5", "rankt5", "query-likelihood")
ROOM = dict.fromkeys(RETRIEVERS, "retrievers") | dict.fromkeys(RERANKERS, "rerankers")
STAGES = (*RETRIEVERS, *RERANKERS)


def world_value(name):
    """A value that only the fixture `world` has."""
    return lambda world: getattr(world, name)


_NO_GPU = "no GPU|CUDA|cuda"
_RM3 = {"rm3": True}
_FILTERS = {"allow": Flip(["d1", "d9"]), "deny": Flip(["d1"]), "where": Flip("year < 2000")}
_ROCCHIO = {"method": "rocchio"}

_APPROXIMATE = ("nprobe", "ef", "verify", "candidates", "pq_weight")

FLIPS: dict[str, dict[str, Flip]] = LLM_FLIPS | {
    "bm25": {
        "index": Flip(world_value("other_bm25")),
        "k": Flip(2),
        "k1": Flip(0.1),
        "b": Flip(1.0),
        "rm3": Flip(True),
        "fb_terms": Flip(1, given=_RM3),
        "fb_docs": Flip(1, given=_RM3),
        "original_query_weight": Flip(0.05, given=_RM3),
        "query_weights": Flip("bm25"),
        "threads": Flip(2, COST, "queries are searched side by side"),
        **_FILTERS,
    },
    "dense": {
        "index": Flip(world_value("other_dense")),
        "k": Flip(2),
        "model": Flip(world_value("other_encoder"), RAISES, r"made by another encoder"),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "truncate_dim": Flip(5),
        **_FILTERS,
        # What they do to approximate indexes is in tests/index/test_ann_search.py.
        **{name: Flip(3, RAISES, f"{name} has no effect: .* is searched exactly") for name in _APPROXIMATE},
    },
    "binary": {
        "index": Flip(world_value("other_binary")),
        "k": Flip(2),
        "model": Flip(world_value("other_encoder"), RAISES, r"made by another encoder"),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "binariser": Flip(world_value("other_binariser"), RAISES, "made by another binariser"),
        "verify": Flip(3),
        "nprobe": Flip(1),
        "ef": Flip(3, RAISES, "ef has no effect"),
        # What it does to kinds that rotate is in tests/index/test_binary_search.py.
        "query_bits": Flip(3, RAISES, "query_bits has no effect"),
        **_FILTERS,
    },
    "sparse": {
        "index": Flip(world_value("other_sparse")),
        "k": Flip(2),
        "model": Flip(world_value("other_mlm"), RAISES, r"made by another encoder"),
        "query_model": Flip(world_value("other_mlm")),
        "query_vectors": Flip(world_value("query_vectors")),
        "query_terms": Flip(2),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "approx": Flip(0.95),
        # What they do to an index of kind seismic is in tests/retrievers/test_sparse.py.
        **{
            name: Flip(3, RAISES, f"{name} has no effect: .* of kind inverted") for name in ("query_cut", "heap_factor")
        },
        **_FILTERS,
    },
    "late": {
        "index": Flip(world_value("other_late")),
        "k": Flip(2),
        "model": Flip(world_value("other_encoder"), RAISES, r"made by another encoder"),
        "device": Flip("cuda", RAISES, _NO_GPU),
        **_FILTERS,
        # What they do to other kinds is in tests/index/test_muvera.py and test_plaid_search.py.
        **{name: Flip(3, RAISES, f"{name} has no effect") for name in ("candidates", "nprobe", "ef")},
        **{name: Flip(3, RAISES, f"{name} has no effect") for name in ("ncells", "threshold", "ndocs", "t_prime")},
        "mode": Flip("warp", RAISES, "mode has no effect"),
    },
    "colberter": {
        "index": Flip(world_value("other_colberter")),
        "k": Flip(2),
        "model": Flip(world_value("other_colberter_model"), RAISES, r"made by another encoder"),
        "backbone": Flip(world_value("other_backbone"), RAISES, r"lacks weights"),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "mode": Flip("cls"),
        "candidates": Flip(2, given={"k": 2, "mode": "bow-cls"}),
        **_FILTERS,
    },
    "dense-prf": {
        "of": Flip(world_value("other_dense_stage")),
        "k": Flip(2),
        "method": Flip("rocchio"),
        "depth": Flip(1),
        "alpha": Flip(-0.4, given=_ROCCHIO),
        "beta": Flip(2.0, given=_ROCCHIO),
        "gamma": Flip(2.0, given=_ROCCHIO | {"negatives": 1}),
        "negatives": Flip(2, given=_ROCCHIO),
    },
    "reranker-feedback": {
        "of": Flip(world_value("other_dense_stage")),
        "reranker": Flip(world_value("other_reranker")),
        "k": Flip(2),
        "depth": Flip(3),
        "loss": Flip("ranknet"),
        "steps": Flip(3),
        "learning_rate": Flip(0.05),
    },
    "cosine-adapter": {
        "of": Flip(world_value("other_dense_stage")),
        "adapter": Flip(world_value("other_adapter")),
        "k": Flip(2),
        "threshold": Flip(0.6),
    },
    "given": {
        "run": Flip(world_value("other_run")),
        "k": Flip(1),
    },
    "hybrid": {
        "of": Flip(world_value("other_parts")),
        "k": Flip(1),
        "method": Flip("sum"),
        "weights": Flip([1.0, 9.0]),
        "norm": Flip("rank", given={"method": "sum"}),
        "rrf_k": Flip(1),
        "params": Flip({"phi": 1}, RAISES, "no effect"),
    },
    "maxsim": {
        "model": Flip(world_value("other_encoder")),
        "depth": Flip(2),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "dtype": Flip("bfloat16"),
        "max_length": Flip(4),
        "token_budget": Flip(8, COST, "smaller batches of the network"),
        "cache_mb": Flip(0, COST, "documents are encoded again for each batch of queries"),
    },
    "cross-encoder": {
        "model": Flip(world_value("other_classifier")),
        "depth": Flip(2),
        "scores": Flip("prob"),
        "instruction": Flip("find the river"),
        "device": Flip("cuda", RAISES, _NO_GPU),
        "dtype": Flip("bfloat16"),
        "max_length": Flip(7),
        "token_budget": Flip(8, COST, "smaller batches of the network"),
        "revision": Flip("main", RAISES, "does not apply to the local folder"),
        "trust_remote_code": Flip(True, COST, "a permission; the tests of checkpoints show what is refused without it"),
    },
}

DOCUMENTS = [
    Document("d1", "the cat and the dog"),
    Document("d2", "fire and water", "stone"),
    Document("d3", "the cat and the dog"),  # d1's text again
    Document("ключ-4", "город 日本 🎉 café cat"),
    Document("d5", "river " * 30 + "cat"),
    Document("d7", "bird"),
    Document("d8", "blue light in the dark city house and a tree"),
    DescribedDocument.of(Document("d9", "cat cat dog red fish"), {"year": 1999}),
    Document("d10", "fish swim in the water of the river"),
    # RM3 leaves out terms of more than a tenth of all documents.
    *(Document(f"e{i}", f"mountain stone {'tree' if i % 2 else 'green'} yes no") for i in range(40)),
]
QUERIES = [
    Query("q1", "cat dog cat fish"),
    Query("q2", "fish of the river"),
    Query("四", "город light"),
    Query("q5", "nothing-like-it"),
    Query("q6", ""),
]


class World:
    """Indexes, runs and tiny random models; `options(name)` are the least that stage `name` needs."""

    def __init__(self, folder):
        self.folder = folder
        self.language = save_models(folder)
        self.data = Dataset("world", QUERIES, open_documents=lambda: iter(DOCUMENTS), num_documents=len(DOCUMENTS))
        others = [*DOCUMENTS[4:-10], Document("z", "cat of the river")]
        other = Dataset("other", QUERIES, open_documents=lambda: iter(others))
        self.encoder = str(save_encoder(folder / "encoder", "bert", "mean", normalise=True))
        self.other_encoder = str(save_encoder(folder / "other", "modernbert", "mean", normalise=True))
        self.classifier = str(save_model(folder / "classifier", "bert"))
        self.other_classifier = str(save_model(folder / "language", "qwen3"))
        self.bm25 = str(BM25.build(self.data, folder / "bm25").index)
        self.other_bm25 = str(BM25.build(other, folder / "bm25-other").index)
        self.dense = str(DenseRetriever.build(self.data, folder / "dense", model=self.encoder, device="cpu").index)
        self.other_dense = str(DenseRetriever.build(other, folder / "dense-other", model=self.encoder).index)
        self.other_binariser = save_binariser(folder / "other-binariser", 32, seed=1)
        coded = {"model": self.encoder, "device": "cpu", "kind": "bebr", "structure": "ivf", "nlist": 4}
        coded["binariser"] = save_binariser(folder / "binariser", 32)
        self.binary = str(BinaryRetriever.build(self.data, folder / "binary", **coded).index)
        self.other_binary = str(BinaryRetriever.build(other, folder / "binary-other", **coded).index)
        self.mlm, self.other_mlm = save_mlm_pair(folder)
        self.query_vectors = str(save_query_vectors(folder / "queries.jsonl", QUERIES))
        self.sparse = str(SparseRetriever.build(self.data, folder / "sparse", model=self.mlm, device="cpu").index)
        self.other_sparse = str(SparseRetriever.build(other, folder / "sparse-other", model=self.mlm).index)
        self.late = str(LateRetriever.build(self.data, folder / "late", model=self.encoder, device="cpu").index)
        self.other_late = str(LateRetriever.build(other, folder / "late-other", model=self.encoder).index)
        colberter = str(save_colberter(folder / "colberter"))
        self.other_colberter_model = str(save_colberter(folder / "colberter-other", second=8))
        self.other_backbone = str(save_backbone(folder / "backbone-other", "bert"))
        made = [(self.data, "colberter-index"), (other, "colberter-other-index")]
        self.colberter, self.other_colberter = (
            str(ColberterRetriever.build(data, folder / name, model=colberter, device="cpu").index)
            for data, name in made
        )
        self.dense_stage = DenseRetriever(self.dense, device="cpu")
        self.other_dense_stage = DenseRetriever(self.other_dense, device="cpu")
        spec = self.dense_stage.opened.manifest.encoder
        self.adapter = save_adapter(folder / "adapter", spec, seed=1)
        self.other_adapter = save_adapter(folder / "adapter-other", spec, seed=2)
        self.reranker = MaxSim(self.encoder, depth=5, device="cpu")
        self.other_reranker = MaxSim(self.other_encoder, depth=5, device="cpu")
        self.run, self.other_run = str(folder / "run.trec"), str(folder / "other.trec")
        self.candidates().write(self.run)
        Run.from_dict({"q1": {"d1": 1.0, "d2": 0.5}, "q2": {"d5": 1.0}}).write(self.other_run)
        self.parts = [BM25(self.bm25), BM25(self.bm25, b=1.0, k1=0.2)]
        self.other_parts = [BM25(self.bm25, k=2), BM25(self.other_bm25)]

    def candidates(self):
        ids = [document.id for document in DOCUMENTS if document.id[0] != "e"]
        rankings = {q: {d: 50.0 - i for i, d in enumerate(ids[n:] + ids[:n])} for n, q in enumerate(("q1", "q2", "四"))}
        return Run.from_dict(rankings | {"q5": {"d7": 1.0}, "q6": {}})

    def get_many(self, ids):
        return {d.id: d for d in DOCUMENTS if d.id in ids}

    def options(self, name):
        base = {
            "bm25": {"index": self.bm25},
            "dense": {"index": self.dense, "device": "cpu"},
            "binary": {"index": self.binary, "device": "cpu"},
            "sparse": {"index": self.sparse, "device": "cpu"},
            "late": {"index": self.late, "device": "cpu"},
            "colberter": {"index": self.colberter, "device": "cpu"},
            "dense-prf": {"of": self.dense_stage},
            "reranker-feedback": {"of": self.dense_stage, "reranker": self.reranker},
            "cosine-adapter": {"of": self.dense_stage, "adapter": self.adapter},
            "given": {"run": self.run},
            "hybrid": {"of": self.parts},
            "maxsim": {"model": self.encoder, "device": "cpu"},
            "cross-encoder": {"model": self.classifier, "device": "cpu"},
        }
        if name in LLM_FLIPS:
            return base_options(name, self.language, str(self.folder / "ledger.sqlite"))
        assert name in base, f"tell the contract what {name} needs"
        return base[name]

    def make(self, name, **options):
        return make(ROOM[name], name, self.options(name) | options)

    def ask(self, stage, queries=QUERIES, candidates=None, texts=None):
        """The stage's run; a reranker gets this world's candidates."""
        if stage.registered_name in RETRIEVERS:
            return stage(queries)
        few = self.few if stage.registered_name in LLM_FLIPS else self.candidates
        return stage(queries, candidates or few(), texts=texts or self)

    def few(self):
        """Candidates for stages that ask much of each: documents with a text, five for one query and three for another."""
        given = self.candidates().to_dict()
        first = {d: 9.0 - i for i, d in enumerate(("d1", "d2", "d9", "ключ-4", "d8"))}
        second = {d: 9.0 - i for i, d in enumerate(("d10", "d7", "d3"))}
        return Run.from_dict({"q1": first, "q2": second, "四": {"ключ-4": 1.0}, "q5": given["q5"], "q6": {}})


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def close(one, two):
    """Scores of the same documents within 1e-5: batches of other sizes round otherwise, so equal texts may swap."""
    return list(one) == list(two) and all(
        row == pytest.approx(two.to_dict()[query_id], abs=1e-5) for query_id, row in one.to_dict().items()
    )


# ---- options ------------------------------------------------------------------------------------------------------------


def test_the_table_of_flips_knows_every_option():
    known = {name: sorted(option_names(find(ROOM[name], name))) for name in STAGES}
    assert {name: sorted(flips) for name, flips in FLIPS.items()} == known


ALL_FLIPS = [(name, option) for name, flips in FLIPS.items() for option in flips]


@pytest.mark.parametrize(("name", "option"), ALL_FLIPS, ids=lambda part: part)
def test_an_accepted_option_has_an_effect_or_raises(name, option, world):
    flip = FLIPS[name][option]
    value = flip.value(world) if callable(flip.value) else flip.value
    if option == "device":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here, so the device is not refused")
    plain = world.make(name, **flip.given)
    assert getattr(plain, option) != value
    if flip.effect == RAISES:
        with pytest.raises(CribbleError, match=flip.why) as caught:
            world.ask(world.make(name, **(flip.given | {option: value})))
        assert isinstance(caught.value, UsageError | InputError | SetupError)
        return
    flipped = world.make(name, **(flip.given | {option: value}))
    assert flipped.key() != plain.key()
    assert flipped.key() == world.make(name, **(flip.given | {option: value})).key()
    before, after = world.ask(plain), world.ask(flipped)
    if flip.effect == COST:
        assert flip.why
        assert close(before, after)
    elif flip.effect == COSTS:
        assert before != after or costs(before) != costs(after)
    else:
        assert before != after


def costs(run):
    """What the provenance counts: calls, tokens, depth, repairs."""
    return {name: value for name, value in run.provenance.items() if isinstance(value, int) and name != "reused_calls"}


@pytest.mark.parametrize("name", STAGES)
def test_every_option_is_documented(name):
    cls = find(ROOM[name], name)
    text = "".join(base.__doc__ or "" for base in cls.__mro__)
    undocumented = [option for option in option_names(cls) if f"`{option}`" not in text]
    assert undocumented == []


@pytest.mark.parametrize("name", STAGES)
def test_a_wrong_option_raises_with_the_nearest_spelling(name, world):
    option = option_names(find(ROOM[name], name))[-1]
    misspelt = option[:-1] + option[-1] * 2
    with pytest.raises(UsageError, match=re.escape(f"{name} has no option '{misspelt}': did you mean '{option}'")):
        world.make(name, **{misspelt: 1})


@pytest.mark.parametrize(("name", "option"), ALL_FLIPS, ids=lambda part: part)
def test_a_value_of_a_wrong_type_is_refused(name, option, world):
    with pytest.raises(UsageError, match=re.escape(f"{name}: {option} is ") + r".*, expected "):
        world.make(name, **{option: 7 if option in ("params", "backend", "judge", "strategy") else {"a": 1}})


@pytest.mark.parametrize("name", STAGES)
def test_a_missing_option_is_named(name):
    cls = find(ROOM[name], name)
    needed = [f.name for f in fields(cls) if f.init and f.default is f.default_factory]
    if name in LLM_FLIPS:
        with pytest.raises(UsageError, match="no strategy is named" if name == "llm" else "needs a model"):
            make(ROOM[name], name, {})
        return
    if not needed:
        assert make(ROOM[name], name, {}).registered_name == name
        return
    with pytest.raises(UsageError, match=f"{name} needs the option '{needed[0]}'"):
        make(ROOM[name], name, {})


# ---- behaviour ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_zero_queries_check_the_stage(name, world):
    assert len(world.ask(world.make(name), [], Run.from_dict({}))) == 0


@pytest.mark.parametrize("name", STAGES)
def test_twice_the_same(name, world):
    assert world.ask(world.make(name)) == world.ask(world.make(name))


@pytest.mark.parametrize("name", STAGES)
def test_every_query_is_in_the_run_in_order(name, world):
    run = world.ask(world.make(name))
    assert list(run) == [query.id for query in QUERIES]
    assert np.isfinite(run.scores).all()
    for query in QUERIES:
        assert len(set(run.ids(query.id))) == len(run.ids(query.id))


@pytest.mark.parametrize("name", RETRIEVERS)
def test_k_beyond_the_corpus_gives_what_there_is(name, world):
    run = world.ask(world.make(name, k=10_000))
    assert 0 < max(len(run.ids(query.id)) for query in QUERIES) <= len(DOCUMENTS)


@pytest.mark.parametrize("name", RETRIEVERS)
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(name, k, world):
    with pytest.raises(UsageError, match=f"k is {k}, expected at least 1"):
        world.ask(world.make(name, k=k))


@pytest.mark.parametrize("name", RETRIEVERS)
def test_the_best_k_are_a_prefix(name, world):
    whole, cut = world.ask(world.make(name)), world.ask(world.make(name, k=2))
    for query in QUERIES:
        assert cut.ids(query.id) == whole.ids(query.id)[:2]


@pytest.mark.parametrize("name", RETRIEVERS)
def test_excluded_documents_do_not_take_places(name, world):
    stage = world.make(name, k=2)
    best = stage(QUERIES).ids("q1")
    run = stage(QUERIES, exclude={"q1": frozenset(best[:1])})
    assert best[0] not in run.ids("q1")
    assert len(run.ids("q1")) == 2


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_retriever_takes_no_candidates(name, world):
    with pytest.raises(UsageError, match="takes no candidates"):
        world.make(name)(QUERIES, world.candidates())


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_same_documents_in_whatever_order_they_come(name, world):
    given = world.candidates()
    shuffled = Run.from_dict({q: {d: -s for d, s in row.items()} for q, row in given.to_dict().items()})
    one, two = (world.ask(world.make(name), candidates=run) for run in (given, shuffled))
    assert close(one, two)
    for query in QUERIES:
        assert sorted(one.ids(query.id)) == sorted(given.ids(query.id))


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_equal_texts_score_alike_and_ids_are_taken_as_they_come(name, world):
    run = world.ask(world.make(name), candidates=world.candidates()).to_dict()
    assert run["q1"]["d1"] == pytest.approx(run["q1"]["d3"], abs=1e-5)
    assert "ключ-4" in run["四"]


@pytest.mark.parametrize("name", RERANKERS)
@pytest.mark.parametrize("depth", [0, -1])
def test_depth_below_one_is_refused(name, depth, world):
    with pytest.raises(UsageError, match=f"{name}: depth is {depth}, expected"):
        world.make(name, depth=depth)


@pytest.mark.parametrize("name", RERANKERS)
def test_one_candidate_and_none(name, world):
    run = world.ask(world.make(name))
    assert run.ids("q5") == ["d7"]
    assert run.ids("q6") == []
