"""Matched words on the report's page: what they hold against the explanations, and the page in a real browser."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
from cribble.configs.experiment import run_experiment
from cribble.configs.schema import parse_config
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, UsageError
from cribble.eval import evaluate, make_report, write_report
from cribble.eval.explorer import make_explorer
from cribble.eval.matched_words import explaining, matched_words
from cribble.explanation import Explanation, TokenMatch, TokenText
from cribble.models.token_texts import word_spans
from cribble.records import DescribedDocument, Document, Qrels, Query, Run
from cribble.stage import Retriever
from cribble.tests.eval.browser import CHROMIUM, REASON, Browser
from cribble.tests.models.conftest import save_encoder

NASTY = "</script><script>alert(1)</script>"
VOCABULARY = ["cat", "dog", "fish", "river", "house", "tree", "stone", "bird"]
QUERIES = {f"q{i}": " ".join(VOCABULARY[(i + j) % 8] for j in range(4)) for i in range(12)}
TEXTS = {
    f"d{j}": f"{NASTY} " + " ".join(VOCABULARY[(j * k + k) % 8] for k in range(1, 60 if j % 2 else 9))
    for j in range(15)
}


class Texts:
    def get_many(self, ids):
        return {i: Document(i, TEXTS[i], "Words") for i in ids if i in TEXTS}


@dataclass
class SameWords(Retriever):
    """Scores by equal words: the fourth of a query counts most. `fails` as a tokenizer without offsets does."""

    k: int = 10
    fails: bool = False

    def explain_match(self, query, document):
        if self.fails:
            raise InputError("the tokenizer says nothing")
        text, matches = document.full_text, []
        for weight, word in enumerate(query.split(), 1):
            spans = [span for span in word_spans(text) if text[slice(*span)] == word]
            found = TokenText(word, "text", spans[0], word, spans[0]) if spans else TokenText("[CLS]", "special")
            matches.append(TokenMatch(TokenText(word, word=word), weight / 4 if spans else 0.0, found))
        return Explanation(query, document, "same", tuple(matches), None, ("of all", f"of {document.id}"))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(2)
    qrels = Qrels.from_dict({q: {d: int(rng.integers(-1, 3)) for d in list(TEXTS)[:9]} for q in QUERIES})
    runs = {
        name: Run.from_dict({q: {d: float(rng.normal()) for d in TEXTS} for q in QUERIES}, name=name)
        for name in ("bm25", "late")
    }
    evaluations = [evaluate(run, qrels, "nDCG@10", name=name) for name, run in runs.items()]
    explorer = make_explorer(
        evaluations, runs, {"": qrels}, evaluations[0].measures[0], query_texts=QUERIES, documents={"": Texts()}
    )
    return runs, evaluations, explorer


def chosen(explorer, queries, documents):
    shown = explorer.tops["late"]
    return {q: [hit.doc_id for hit in shown[q][:documents]] for q in explorer.most_different(queries)}


@pytest.fixture(scope="module")
def report(world):
    _, evaluations, explorer = world
    words = matched_words("late", {"": explaining(SameWords(), Texts(), {})}, chosen(explorer, 5, 3), QUERIES)
    return make_report(
        evaluations,
        query_texts=QUERIES,
        explorer=replace(explorer, matched={"late": words}),
        resamples=200,
        permutations=500,
    )


def test_the_data_are_the_best_documents_of_the_queries_that_differ_most(world, report):
    _, evaluations, explorer = world
    spread = np.abs(evaluations[0]["nDCG@10"] - evaluations[1]["nDCG@10"])
    data = json.loads(json.dumps(report.explorer.to_json()))
    matched = {query["id"]: query["matched"] for query in data["queries"] if "matched" in query}
    assert set(matched) == {explorer.query_ids[i] for i in np.argsort(-spread)[:5]}
    assert data["notes"] == [[], ["of all"]]
    for query_id, (bm25, late) in matched.items():
        assert bm25 == {}
        ids = [data["documents"][int(number)][0] for number in late]
        assert ids == [hit.doc_id for hit in explorer.tops["late"][query_id][:3]]
        for doc_id, (pieces, notes) in zip(ids, late.values(), strict=True):
            why = SameWords().explain_match(QUERIES[query_id], Texts().get_many([doc_id])[doc_id])
            words = {piece[0]: piece for piece in pieces if isinstance(piece, list)}
            assert f"of {doc_id}" in notes
            assert "same" in notes[0]  # which gave no score of its own
            assert words
            for share in why.words:
                assert words[share.word][1] == min(4, 1 + int(share.strength * 4))
                assert words[share.word][2] == f"adds {share.contribution:.3f} of {why.score:.3f}: {share.word}"
            assert len("".join(p if isinstance(p, str) else p[0] for p in pieces)) < 420


def test_what_can_t_be_explained_is_left_out_and_said(world, caplog):
    class Pictures(Texts):
        def get_many(self, ids):
            return {i: DescribedDocument.of(d, {"image_file": "p.png"}) for i, d in super().get_many(ids).items()}

    _, _, explorer = world
    tops = chosen(explorer, 5, 3)
    assert explaining(Retriever(), Texts(), {}) is None
    assert explaining(SameWords(), None, {}) is None
    assert matched_words("late", {"": explaining(SameWords(), Pictures(), {})}, tops, QUERIES) is None
    with caplog.at_level(logging.WARNING, "cribble"):
        assert matched_words("late", {"": explaining(SameWords(fails=True), Texts(), {})}, tops, QUERIES) is None
    assert "late: the report does not show what matched: the tokenizer says nothing" in caplog.text


def test_parts_and_rewritten_queries():
    by = {"a": explaining(SameWords(), Texts(), {"q1": "stone"})}
    found = matched_words("late", by, {"a/q1": ["d1"], "b/q1": ["d1"]}, {"a/q1": "cat", "b/q1": "cat"})
    assert list(found.documents) == ["a/q1"]
    [pieces, _] = found.documents["a/q1"]["d1"]
    assert {piece[0] for piece in pieces if isinstance(piece, list)} == {"stone"}


OPEN = "[...document.querySelectorAll('#explorer .open')].find(b => b.textContent === {query}).focus()"
CONTRASTS = """(() => {
  const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
    return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  };
  const between = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  return [1, 2, 3, 4].map(i => {
    const mark = document.createElement('button'), tip = document.createElement('span');
    mark.className = `match m${i}`; tip.setAttribute('role', 'tooltip'); mark.append('x', tip);
    document.querySelector('.matched').append(mark);
    const one = getComputedStyle(mark), two = getComputedStyle(tip);
    const found = [one, two].map(style => between(light(style.color), light(style.backgroundColor)));
    found.push(one.backgroundColor);
    mark.remove();
    return found;
  });
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_words_by_keys_in_light_and_dark_and_on_a_phone(report, tmp_path):
    page = tmp_path / "report.html"
    write_report(report, page)
    query = next(iter(report.explorer.matched["late"].documents))
    with Browser(tmp_path / "profile") as browser:
        for width, scheme, phone in ((1280, "light", False), (390, "dark", True)):
            browser.messages.clear()
            browser.prefer(scheme)
            browser.open(page, width, 844, phone)
            assert "of 5 queries the words are coloured" in browser.run(
                "document.querySelector('#explorer').textContent"
            )
            browser.run(OPEN.format(query=json.dumps(query)))
            browser.press("Enter")
            sides = "document.querySelectorAll('.detail section')"
            assert browser.run(f"[...{sides}].map(s => s.querySelectorAll('.matched').length)") == [0, 3]
            words = browser.run(
                "[...document.querySelectorAll('.matched')].map(m => m.querySelectorAll('.match').length)"
            )
            while not browser.run("document.activeElement.classList.contains('match')"):
                browser.press("Tab")
            first = browser.run("document.activeElement.firstChild.textContent")
            tip = "getComputedStyle(document.activeElement.querySelector('[role=tooltip]')).display"
            assert browser.run(tip) == "block"
            shown = "[...document.querySelectorAll('[role=tooltip]')].filter(t => getComputedStyle(t).display !== 'none').length"
            assert browser.run(shown) == 1
            told = browser.run("document.activeElement.querySelector('[role=tooltip]').textContent")
            assert told.startswith("adds ")
            assert told.endswith(f": {first}")
            place = "document.activeElement.querySelector('[role=tooltip]').getBoundingClientRect()"
            for _ in range(words[0] + 2):
                browser.press("ArrowRight")
                assert browser.run(f"{place}.left >= 0 && {place}.right <= innerWidth && {place}.height > 0")
            last = "[...document.querySelector('.matched').querySelectorAll('.match')].pop() === document.activeElement"
            assert browser.run(last)
            browser.press("Tab")  # one stop a document
            assert (
                browser.run("[...document.querySelectorAll('.matched')].indexOf(document.activeElement.parentNode)")
                == 1
            )
            browser.press("Escape")
            assert browser.run(shown) == 0
            contrasts = browser.run(CONTRASTS)
            assert all(row[0] >= 4.5 and row[1] >= 4.5 for row in contrasts), contrasts
            assert len({row[2] for row in contrasts}) == 4
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.errors == []
            assert browser.requests == [page.resolve().as_uri()]


def test_an_experiment_shows_them_as_its_config_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = str(save_encoder(tmp_path / "encoder", "bert", "mean", normalise=True))
    documents = [Document(i, text.removeprefix(NASTY)) for i, text in TEXTS.items()]
    data = Dataset(
        "world",
        [Query(i, text) for i, text in QUERIES.items()],
        open_documents=lambda: iter(documents),
        num_documents=len(documents),
        qrels=Qrels.from_dict({q: {"d1": 1} for q in QUERIES}),
    )
    late = {"use": "late", "model": model, "device": "cpu", "k": 10}
    config = {
        "name": "words",
        "dataset": "made",
        "measures": "nDCG@10",
        "pipeline": {"alone": [late], "reranked": [late, {"use": "maxsim", "model": model, "device": "cpu"}]},
    }
    for given, queries, shown in (({"queries": 4, "documents": 2}, 4, 2), ({"queries": 0}, 0, 0), ({}, 12, 3)):
        done = run_experiment(parse_config(config | {"explain": given}), tmp_path / f"out{queries}", dataset=data)
        matched = done.report.explorer.matched
        assert set(matched) == ({"alone", "reranked"} if queries else set())
        for own in matched.values():
            assert len(own.documents) == queries
            assert all(len(row) == shown for row in own.documents.values())
            told = [note for row in own.documents.values() for _, notes in row.values() for note in notes]
            assert all("the model read" in note or "by its token vectors" in note for note in told), told
        page = (tmp_path / f"out{queries}" / "report.html").read_text()
        assert ("the words are coloured" in page) == bool(queries)
        assert matched.get("alone") is None or "keeps float16 numbers" in matched["alone"].notes[0]
    with pytest.raises(UsageError, match=r"unknown key 'explain.query': did you mean 'queries'"):
        parse_config(config | {"explain": {"query": 3}})
    with pytest.raises(UsageError, match=r"explain\.documents"):
        parse_config(config | {"explain": {"documents": 11}})
