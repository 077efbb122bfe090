"""The report's page in a real browser: it opens offline, fits a phone, and its explorer works by keys alone.

The numbers in it are compared with the evaluations themselves.
"""

import json

import numpy as np
import pytest
from cribble.eval import evaluate, make_report, write_report
from cribble.eval.explorer import make_explorer
from cribble.eval.report import counts_of
from cribble.records import Document, Qrels, Run
from cribble.tests.eval.browser import CHROMIUM, REASON, Browser

NASTY = "</script><script>alert(1)</script>"
QUICK = {"resamples": 200, "permutations": 500}


class Texts:
    def get_many(self, ids):
        return {i: Document(i, f"text of {i} {NASTY}") for i in ids if i != "d3"}


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(2)
    queries, documents = [f"q{i}" for i in range(12)], [f"d{j}" for j in range(15)]
    qrels = Qrels.from_dict({q: {d: int(rng.integers(-1, 3)) for d in documents[:9]} for q in queries})
    made = {
        name: Run.from_dict(
            {q: {d: float(rng.normal()) for d in documents} for q in queries[: 12 - missing]}, name=name
        )
        for name, missing in (("first", 0), ("second & more", 1), (NASTY, 0))
    }
    return made, qrels


@pytest.fixture(scope="module")
def report(runs):
    made, qrels = runs
    evaluations = [evaluate(run, qrels, "nDCG@10 RR", name=name) for name, run in made.items()]
    texts = {q: f"what is {q}" for q in qrels}
    explorer = make_explorer(
        evaluations, made, {"": qrels}, evaluations[0].measures[0], query_texts=texts, documents={"": Texts()}
    )
    account = {"first": {"truncated": 7, "repaired_answers": 2}}
    return make_report(evaluations, query_texts=texts, explorer=explorer, made=account, **QUICK)


def test_the_explorer_holds_runs_values_and_judgements(report, runs):
    made, qrels = runs
    data = json.loads(json.dumps(report.explorer.to_json()))
    assert data["runs"] == list(made)
    for query in data["queries"]:
        for n, (name, run) in enumerate(made.items()):
            assert query["values"][n] == pytest.approx(
                report.rows[n].evaluation.per_query("nDCG@10")[query["id"]], abs=1e-6
            )
            shown = [(data["documents"][number][0], label) for number, _, label in query["tops"][n]]
            ids = run.ids(query["id"])[:10] if query["id"] in run else []
            assert shown == [(d, qrels[query["id"]].get(d)) for d in ids], name
    titles = dict(data["documents"])
    assert titles["d3"] == ""
    assert titles["d4"].startswith("text of d4")


def test_the_queries_that_differ_most_are_kept(runs):
    made, qrels = runs
    evaluations = [evaluate(run, qrels, "nDCG@10", name=name) for name, run in made.items()]
    few = make_explorer(evaluations, made, {"": qrels}, evaluations[0].measures[0], limit=4)
    spread = np.ptp(np.column_stack([e["nDCG@10"] for e in evaluations]), axis=1)
    assert set(few.query_ids) == {f"q{i}" for i in np.argsort(-spread)[:4]}
    assert few.left_out == 8


def test_the_account_says_what_was_left_out_cut_or_repaired(report):
    header, rows = report.account()
    told = [dict(zip(header, row, strict=True)) for row in rows]
    assert told[1]["without results (count 0)"] == 1
    assert told[0]["truncated"] == 7
    assert told[0]["repaired answers"] == 2
    assert told[2]["truncated"] == 0
    assert counts_of({"truncated": 3, "repaired_order": 1, "calls": 9, "model": {}}) == {
        "truncated": 3,
        "repaired_order": 1,
    }


@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_the_page_by_keys_and_on_a_phone(report, tmp_path):
    page = tmp_path / "report.html"
    write_report(report, page)
    with Browser(tmp_path / "profile") as browser:
        for width, phone in ((1280, False), (390, True)):
            browser.messages.clear()
            browser.open(page, width, 844, phone)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.requests == [page.resolve().as_uri()]
            assert browser.errors == []
        assert browser.run("document.querySelectorAll('#explorer tbody tr').length") == 12
        for _ in range(60):
            browser.press("Tab")
            if browser.run("document.activeElement.classList.contains('open')"):
                break
        query = browser.run("document.activeElement.textContent")
        differences = {
            q: report.rows[1].evaluation.per_query("nDCG@10")[q] - report.rows[0].evaluation.per_query("nDCG@10")[q]
            for q in report.explorer.query_ids
        }
        assert query == max(differences, key=differences.get)  # the largest gain over the baseline stands first
        browser.press("Enter")
        sides = "[...document.querySelectorAll('.detail section')].map(s => [...s.querySelectorAll('li strong')].map(x => x.textContent))"
        assert [row[:10] for row in browser.run(sides)] == [
            [s.doc_id for s in report.explorer.tops[n].get(query, ())] for n in report.explorer.runs[:2]
        ]
        assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
        browser.press("Enter")
        assert browser.run("document.querySelectorAll('.detail').length") == 0
        browser.run(
            "const box = document.getElementById('explorer-find'); box.value = 'what is q7'; box.dispatchEvent(new Event('input'))"
        )
        assert browser.run("[...document.querySelectorAll('#explorer .open')].map(b => b.textContent)") == ["q7"]
