"""doc2query: queries drawn as transformers would, determinism, resumed runs, and the folder that every engine reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cribble.commands.expansion import expand_folder
from cribble.corpora import load_dataset
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.models import doc2query
from cribble.models.calls import GenerateCall, Prompt
from cribble.models.doc2query import DOCUMENTS_AT_ONCE, Expander
from cribble.models.sparse_encoder import SparseEncoder
from cribble.models.writing import TopK
from cribble.records import DescribedDocument, Document, Qrels, Query
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.sparse_models import dense, save_mlm
from cribble.tests.models.tiny_language_models import network

SHORT = {"queries": 3, "max_tokens": 6, "device": "cpu"}


def documents(n):
    return [Document(f"d{i}", " ".join(WORDS[i % 20 : i % 20 + 2 + i % 7]), "cat" if i % 3 else "") for i in range(n)]


@pytest.fixture
def expander(language_model):
    return lambda **options: Expander(language_model("t5"), **SHORT | options)


def test_greedy_queries_are_those_of_transformers(expander):
    """Oracle: `generate` of the same model for each document alone."""
    tokens = expander()._tokens
    docs = documents(5)
    got = expander(top_k=1).queries_for(docs)
    for document, queries in zip(docs, got, strict=True):
        ids = tokens.tokenizer(document.full_text)["input_ids"]
        with torch.inference_mode():
            output = network("t5").generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, eos_token_id=1)
        expected = " ".join(tokens.tokenizer.decode(output[0], skip_special_tokens=True).split())
        assert queries == [expected] * 3


def test_draws_come_from_the_likeliest_in_their_proportions():
    """Oracle: the softmax over the best three logits; 4,000 draws, five standard deviations."""

    class Writer:
        done, tokens = False, []

        def restart(self):
            pass

    logits = torch.tensor([0.0, 2.0, -1.0, 1.0, 1.5, -3.0])
    writing = TopK(GenerateCall(Prompt(), temperature=1.0, seed=1), Writer(), 3)
    drawn = np.bincount([writing._pick(logits) for _ in range(4000)], minlength=6) / 4000
    expected = np.exp([0, 2.0, 0, 1.0, 1.5, 0]) * [0, 1, 0, 1, 1, 0]
    expected /= expected.sum()
    assert (np.abs(drawn - expected) <= 5 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_the_same_seed_gives_the_same_queries_and_another_others(expander):
    docs = documents(4)
    one, two, other = (expander(seed=s).queries_for(docs) for s in (1, 1, 2))
    assert one == two != other
    assert len({query for queries in one for query in queries}) > 4
    assert all(len(queries) == 3 for queries in one)
    again = expander(seed=1).queries_for(docs[2:3])
    assert again == one[2:3]  # as no other document disturbs a draw
    more = expander(seed=1, queries=5).queries_for(docs)
    assert [queries[:3] for queries in more] == one


def test_documents_keep_what_they_are(expander):
    described = DescribedDocument.of(Document("x", "the river", "fire"), {"year": 1999})
    (expanded,) = expander().expand([described])
    assert (expanded.id, expanded.title, expanded.metadata) == ("x", "fire", {"year": 1999})
    assert expanded.text.startswith("the river ")
    assert list(expander().expand([])) == []


def test_long_documents_are_cut_and_counted(expander):
    long = expander(max_length=5)
    docs = [Document("1", "cat dog bird fish river city"), Document("2", "cat")]
    queries = long.queries_for(docs)
    assert long.truncated == 1
    assert len(queries) == 2


def test_what_is_wrong_is_named(expander, bert_cls, tmp_path):
    for name in ("queries", "top_k", "max_tokens"):
        with pytest.raises(UsageError, match=f"{name}=0, expected at least 1"):
            expander(**{name: 0})
    with pytest.raises(InputError, match="no encoder–decoder"):
        Expander(bert_cls, **SHORT).queries_for(documents(1))
    picture = DescribedDocument.of(Document("p", "a.png"), {"image_file": str(tmp_path / "a.png")})
    with pytest.raises(InputError, match="'p' is a picture"):
        expander().queries_for([picture])


def test_a_sparse_encoder_encodes_expanded_documents(expander, tmp_path):
    folder, docs = save_mlm(tmp_path / "bert"), documents(3)
    encoder, bare = SparseEncoder(folder, device="cpu", expander=expander()), SparseEncoder(folder, device="cpu")
    expected = bare.encode_documents(expander().expand(docs))
    assert np.allclose(dense(encoder.encode_documents(docs)), dense(expected), atol=1e-5)
    assert np.allclose(dense(encoder.encode_queries(["cat"])), dense(bare.encode_queries(["cat"])), atol=1e-5)
    record = encoder.spec.extra["expansion"]
    assert (record["queries"], record["top_k"], record["seed"]) == (3, 10, 42)
    assert encoder.spec.differences(bare.spec)
    again = SparseEncoder.of_spec(encoder.spec, folder, device="cpu")
    assert again.spec.differences(encoder.spec) == []
    assert np.allclose(dense(again.encode_documents(docs)), dense(expected), atol=1e-5)
    with pytest.raises(InputError, match=r"has the weights .* recorded are"):
        Expander.of_record(record | {"revision": "0" * 64}, device="cpu")


# ---- the folder ----------------------------------------------------------------------------------------------------------


def dataset(n, **changes):
    docs = documents(n)
    qrels = Qrels.from_dict({"q": {"d1": 1}})
    fields = {"open_documents": lambda: iter(docs), "num_documents": n, "qrels": qrels} | changes
    return Dataset("animals", [Query("q", "cat")], **fields)


def test_a_folder_is_a_beir_folder(expander, tmp_path, caplog):
    counts = expand_folder(dataset(5), expander(), tmp_path / "out")
    assert (counts["documents"], counts["resumed"]) == (5, 0)
    read = load_dataset(f"beir:{tmp_path / 'out'}")
    assert list(read.documents()) == list(expander().expand(documents(5)))
    assert [(q.id, q.text) for q in read.queries] == [("q", "cat")]
    assert read.qrels.to_dict() == {"q": {"d1": 1}}
    record = json.loads((tmp_path / "out" / "expansion.json").read_text())
    assert (record["corpus"], record["queries"], record["seed"]) == ("animals", 3, 42)
    with pytest.raises(SetupError, match="an expanded corpus is here already"):
        expand_folder(dataset(5), expander(), tmp_path / "out")
    expand_folder(dataset(5, drop_self=True), expander(queries=1), tmp_path / "out", overwrite=True)
    assert "is no part of a BEIR folder" in caplog.text


def test_an_interrupted_run_goes_on_to_the_same_bytes(expander, tmp_path, monkeypatch):
    """It stops in its third batch with half a line written, and may not generate the first two again."""
    n = 2 * DOCUMENTS_AT_ONCE + 5
    few = {"queries": 1, "max_tokens": 2}
    expand_folder(dataset(n), expander(**few), tmp_path / "whole")
    out, calls = tmp_path / "stopped", []
    expand_batch = Expander.expand_batch

    def stopping(self, batch):
        calls.append(len(batch))
        if len(calls) == 3:
            with (out / "corpus.jsonl.part").open("ab") as stream:
                stream.write(b'{"_id": "d128", "ti')
            raise KeyboardInterrupt
        return expand_batch(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(doc2query.Expander, "expand_batch", stopping)
        with pytest.raises(KeyboardInterrupt):
            expand_folder(dataset(n), expander(**few), out)
    assert not (out / "corpus.jsonl").exists()
    with pytest.raises(SetupError, match=r"another kind is here \(seed: 7 asked for, 42 there\)"):
        expand_folder(dataset(n), expander(**few, seed=7), out)
    changed = [Document("d0", "another text"), *documents(n)[1:]]
    with pytest.raises(InputError, match="document 'd0' differs"):
        expand_folder(dataset(n, open_documents=lambda: iter(changed)), expander(**few), out)
    counts = expand_folder(dataset(n), expander(**few), out)
    assert (counts["documents"], counts["resumed"]) == (n, 2 * DOCUMENTS_AT_ONCE)
    assert (out / "corpus.jsonl").read_bytes() == (tmp_path / "whole" / "corpus.jsonl").read_bytes()
