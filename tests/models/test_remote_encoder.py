"""The remote encoder against a server on the loopback interface, well-behaved and not; vectors as the server makes them."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.models.encoders import encoder_of, make_encoder
from cribble.models.remote_encoder import RemoteEncoder
from cribble.records import Document
from cribble.tests.models.loopback_llm import LoopbackLLM, embedding

TEXTS = ["cat dog", "river", "", "the mountain and the city", "fish " * 40, "cat dog"]


def documents(texts=TEXTS):
    return [Document(str(i), text, "a title" if i == 1 else "") for i, text in enumerate(texts)]


def encoder(server, **options):
    return RemoteEncoder("loopback", url=server.url, **{"backoff_seconds": 0.01, "batch": 2, **options})


def expected(texts, dimensions=16):
    return np.array([embedding(text, dimensions) for text in texts], np.float32)


def test_vectors_stand_where_their_texts_do():
    with LoopbackLLM(delay=0.02) as server:
        remote = encoder(server, query_prompt="query: ", concurrency=3)
        got = remote.encode_documents(documents()).values
        assert np.allclose(got, expected([document.full_text or " " for document in documents()]), atol=1e-6)
        assert server.most_at_once > 1
        got = remote.encode_queries(TEXTS).values
        assert np.allclose(got, expected(["query: " + text for text in TEXTS]), atol=1e-6)
        assert all(len(body["input"]) <= 2 and body["model"] == "loopback" for body in server.asked)
        assert remote.encode_queries([]).values.shape == (0, 16)
        spec = remote.spec
        assert (spec.model, spec.dim, spec.normalised, spec.query_prompt) == ("openai:loopback", 16, True, "query: ")
        assert spec.extra == {"url": server.url}


@pytest.mark.parametrize("kind", ["reversed", "no-index", "no-usage"])
def test_answers_in_another_form(kind):
    with LoopbackLLM(always=kind) as server:
        assert np.allclose(encoder(server).encode_queries(TEXTS).values, expected([t or " " for t in TEXTS]), atol=1e-6)


BROKEN = ["nan", "null", "narrow", "no-embedding", "missing-row", "no-data", "same-index"]


@pytest.mark.parametrize("kind", [*BROKEN, "429", "500", "closed", "html", "half", "array"])
def test_a_broken_answer_is_asked_for_again(kind):
    with LoopbackLLM(["", kind, "", kind]) as server:
        remote = encoder(server, concurrency=1)
        _ = remote.spec
        assert np.allclose(remote.encode_queries(TEXTS).values, expected([t or " " for t in TEXTS]), atol=1e-6)
        assert len(server.asked) == 1 + 3 + 2


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_that_stays_broken_is_an_error_that_names_the_texts(kind):
    with LoopbackLLM([""], always=kind) as server:
        remote = encoder(server, retries=1)
        _ = remote.spec
        with pytest.raises(SetupError, match=r"texts got no vectors from loopback \(the answer.*run again"):
            remote.encode_queries(["one text", "another text"])


def test_vectors_of_another_width_than_before_are_refused():
    with LoopbackLLM(["", "all-narrow"]) as server:
        remote = encoder(server, batch=10)
        _ = remote.spec
        with pytest.raises(InputError, match="15 dimensions, and of 16 before"):
            remote.encode_queries(TEXTS)


def test_dim_is_asked_of_the_server_and_checked():
    with LoopbackLLM() as server:
        remote = encoder(server, dim=8)
        assert np.allclose(remote.encode_queries(["cat"]).values, expected(["cat"], 8), atol=1e-6)
        assert remote.spec.dim == 8
        assert remote.spec.extra["dim"] == 8
        again = encoder_of(remote.spec)
        assert again.spec.differences(remote.spec) == []
        assert encoder(server, dim=4).spec.differences(remote.spec) == ["dim: 4 here, 8 there"]


def test_texts_are_cut_and_counted():
    with LoopbackLLM() as server:
        remote = encoder(server, max_length=5)
        got = remote.encode_queries(["fish " * 40, "cat"]).values
        assert np.allclose(got, expected(["fish " * 5, "cat"]), atol=1e-6)
        assert remote.truncated == 1


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret-1234")
    with LoopbackLLM(key="sk-very-secret-1234") as server:
        remote = encoder(server, key_variable="MY_KEY")
        assert remote.encode_queries(["cat"]).values.shape == (1, 16)
        assert "secret" not in repr(remote) + str(remote.spec)
        monkeypatch.setenv("MY_KEY", "sk-another-5678")
        with pytest.raises(SetupError, match="refuses the key in the variable MY_KEY") as caught:
            encoder(server, key_variable="MY_KEY").encode_queries(["cat"])
        assert "5678" not in str(caught.value)
    with pytest.raises(SetupError, match="needs a key: set the environment variable NO_SUCH_KEY"):
        RemoteEncoder("m", url=server.url, key_variable="NO_SUCH_KEY").encode_queries(["cat"])


def test_a_budget_stops_before_it_is_exceeded():
    with LoopbackLLM() as server:
        remote = encoder(server, max_total_tokens=8, concurrency=1)
        with pytest.raises(SetupError, match=r"max_total_tokens=8 is reached after \d answers"):
            remote.encode_queries(["one two three"] * 20)
        assert 1 <= len(server.asked) <= 4


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("openai:", {}, "no model is named"),
        ("openai:m", {"batch": 0}, "batch=0: expected at least 1"),
        ("openai:m", {"url": "ftp://x"}, "no http"),
        ("openai:m", {"max_cost": 1.0}, "belong together"),
        ("openai:m", {"dtype": "float32"}, "no option 'dtype'"),
    ],
)
def test_wrong_options_are_named(model, options, message):
    with pytest.raises(UsageError, match=message):
        make_encoder(model, **options)


def test_an_index_by_a_server_and_searched_by_it(tmp_path):
    """From the documents to the ranking, and refused with another server's model."""
    from cribble.corpora.dataset import Dataset
    from cribble.records import Query
    from cribble.retrievers.dense import DenseRetriever

    data = Dataset("test", [Query("1", "river")], open_documents=lambda: iter(documents()))
    with LoopbackLLM() as server:
        options = {"model": "openai:loopback", "url": server.url, "dim": 12}
        dense = DenseRetriever.build(data, tmp_path / "index", **options)
        run = dense(data)
        scores = expected([document.full_text or " " for document in documents()], 12) @ expected(["river"], 12)[0]
        assert np.allclose(run["1"].scores, scores[[int(i) for i in run["1"].ids]], atol=1e-6)
        assert run["1"].scores[0] == pytest.approx(scores.max(), abs=1e-6)
        assert dense.opened.manifest.encoder.extra == {"url": server.url, "dim": 12}
        with pytest.raises(InputError, match="openai:other"):
            DenseRetriever(tmp_path / "index", model="openai:other")(data)
