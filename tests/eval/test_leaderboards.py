"""Leaderboards and exports: every number is a stored one, holes are told, the page opens offline and obeys keys.

Oracles: `compare` for tests, statsmodels for Holm over the board, pytrec_eval for exported runs.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.eval import compare
from cribble.eval.exports import (
    escaped,
    metadata_header,
    read_metadata,
    unescaped,
    write_beir_bundle,
    write_bright_scores,
    write_trec,
)
from cribble.eval.leaderboard import make_leaderboard, pareto_front
from cribble.eval.leaderboard_page import to_html
from cribble.eval.leaderboard_plots import pareto_plots, radar_plots
from cribble.eval.leaderboard_text import to_markdown, write_leaderboard
from cribble.eval.results_store import Result, read_result, read_store, save_result
from cribble.records import Run
from cribble.run_files import read_run
from cribble.tests.eval.browser import CHROMIUM, REASON, Browser

SETS = ("beir/scifact", "beir/nfcorpus", "beir/arguana", "mine")


def results(systems=4, sets=SETS, queries=40):
    """Systems that get better, by per-query values of four sets; the last lacks the last set."""
    rng = np.random.default_rng(4)
    found = []
    for dataset in sets:
        base = rng.uniform(0, 0.6, queries)
        for n in range(systems):
            if n == systems - 1 and dataset == sets[-1]:
                continue
            values = np.clip(base + 0.08 * n + rng.normal(0, 0.05, queries), 0, 1)
            found.append(
                Result(
                    system=f"system {n}",
                    dataset=dataset,
                    means={"nDCG@10": float(values.mean())},
                    query_ids=tuple(map(str, range(queries))),
                    values={"nDCG@10": tuple(values.tolist())},
                    cost={"seconds_per_query": 0.01 * 4**n, "index_bytes": 1e6 * (n + 1)},
                    suite="beir" if dataset.startswith("beir") else "",
                    provenance={"date": "2026-11-29", "versions": {"numpy": "2"}},
                )
            )
    return found


@pytest.fixture(scope="module")
def board():
    return make_leaderboard(results(), title="Sieves <b>", baseline="system 0")


def test_a_result_is_read_as_it_was_written(tmp_path):
    for result in results():
        save_result(result, tmp_path)
    again = {(r.system, r.dataset): r for r in read_store(tmp_path)}
    for result in results():
        assert vars(again[result.system, result.dataset]) == vars(result)
    save_result(results()[0], tmp_path)  # the same system and set: replaced
    assert len(read_store(tmp_path)) == len(results())


def test_what_the_store_refuses(tmp_path):
    first = results()[0]
    path = save_result(first, tmp_path)
    with pytest.raises(InputError, match="another name"):
        save_result(replace(first, system="system-0"), tmp_path)
    save_result(first, tmp_path / "again")
    with pytest.raises(InputError, match="both of 'system 0'"):
        read_store(tmp_path)
    content = json.loads(path.read_text())
    for change, told in (
        ({"format": 9}, "format 1"),
        ({"means": None, "x": 1}, "'x'"),
        ({"query_ids": ["1"]}, "40 values for 1"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(InputError, match=told):
            read_result(path)
    path.write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_result(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no results"):
        read_store(tmp_path / "empty")


def test_cells_are_tested_with_holm_over_the_whole_board(board):
    """Each p is `compare`'s, corrected by statsmodels over all ten tests."""
    from statsmodels.stats.multitest import multipletests

    table = {(r.system, r.dataset): r for r in results()}
    raw, shown = [], []
    for row in board.local:
        for dataset, cell in row.cells.items():
            assert cell.score == table[row.system, dataset].means["nDCG@10"]
            if row.system == "system 0":
                assert cell.verdict == ""
                continue
            pair = [table[name, dataset].evaluation("nDCG@10") for name in ("system 0", row.system)]
            raw.append(compare(pair, baseline="system 0", seed=42).differences[0].p_randomisation)
            shown.append(cell.holm)
    assert len(raw) == 11
    assert shown == pytest.approx(multipletests(raw, method="holm")[1].tolist(), abs=1e-12)
    wins, ties, losses = board.row("system 2").record()
    assert (wins, ties + losses) == (4, 0)
    assert any("Holm over all 11 tests" in note for note in board.notes)


def test_no_mean_over_a_hole(board):
    label = "mean of all 4 here"
    assert board.labels == (label,)
    assert board.row("system 3").means[label] is None
    assert any("system 3 has no result on mine" in note for note in board.notes)
    assert any("No mean of 18 of beir: 15 of its 18 sets are not here" in note for note in board.notes)
    assert board.rows[0].system == "system 2"  # by the mean; what has none stands behind what has one
    assert "system 3" not in [name for name, _, _ in board.points("seconds_per_query")]


def test_published_rows_are_marked(board):
    row = board.row("BGE-base-en-v1.5")
    assert row.published
    assert row.cells["beir/scifact"].score == 0.7408
    assert row.means["mean of all 4 here"] is None
    assert "two-click" not in row.setting
    assert "pyserini" in row.source
    assert "| BGE-base-en-v1.5 (published) |" in to_markdown(board)
    local = make_leaderboard(results(), published=False)
    assert all(not row.published for row in local.rows)


def test_parts_weigh_equally():
    """A result over parts keeps their weights: its evaluation's mean is the mean of the parts' means."""
    result = Result(
        "s", "d", {"nDCG@10": 0.75}, ("a/1", "a/2", "a/3", "b/1"), {"nDCG@10": (0.5, 0.5, 0.5, 1.0)}, (0, 0, 0, 1)
    )
    assert result.evaluation("nDCG@10").mean("nDCG@10") == pytest.approx(0.75)


def test_other_queries_are_not_tested():
    other = [
        replace(r, query_ids=tuple(f"x{q}" for q in r.query_ids)) if r.system == "system 1" else r for r in results()
    ]
    made = make_leaderboard(other, baseline="system 0")
    assert not made.tested(made.row("system 1"))
    assert any("have other queries" in note for note in made.notes)


def test_wrong_names_are_told():
    with pytest.raises(UsageError, match="system 0"):
        make_leaderboard(results(), baseline="system O")
    with pytest.raises(UsageError, match="nDCG@10"):
        make_leaderboard(results(), measure="nDCG@5")


def test_the_front():
    points = [
        ("slow best", 9.0, 0.9),
        ("dear", 9.5, 0.8),
        ("cheap", 1.0, 0.5),
        ("same cost", 1.0, 0.4),
        ("middle", 3.0, 0.7),
    ]
    assert pareto_front(points) == ["cheap", "middle", "slow best"]


def test_plots(board):
    radars = radar_plots(board)
    assert [name for name, _ in radars] == ["system 2", "system 1"]  # system 3 lacks an axis
    gain = board.row("system 2").cells["mine"].score - board.row("system 0").cells["mine"].score
    assert f"mine: {gain:+.4f}" in radars[0][1]
    assert [heading for heading, _ in pareto_plots(board)] == [
        "nDCG@10 against seconds a query",
        "nDCG@10 against bytes of the index",
    ]
    assert radar_plots(make_leaderboard(results(sets=SETS[:2]))) == []


@pytest.mark.parametrize("ending", ["md", "html", "json"])
def test_every_form_holds_every_score(board, ending, tmp_path):
    path = tmp_path / f"board.{ending}"
    write_leaderboard(board, path)
    text = path.read_text()
    for row in board.rows:
        for cell in row.cells.values():
            assert (repr(cell.score) if ending == "json" else f"{cell.score:.4f}") in text
    assert "<b>" not in text.replace("Sieves <b>", "") if ending == "json" else "Sieves <b>" not in text
    with pytest.raises(UsageError, match=r"\.md"):
        write_leaderboard(board, tmp_path / "board.pdf")


def test_thirty_systems():
    """A table of thirty systems has thirty rows, each with its own verdicts."""
    made = make_leaderboard(results(systems=30, sets=("a", "b")), published=False)
    assert len(made.rows) == 30
    assert to_markdown(made).count("\n| system") == 31  # and the header


def test_identical_systems_are_said_to_be_so():
    same = results(systems=2, sets=("a",))
    twin = replace(same[0], system="twin")
    made = make_leaderboard([same[0], twin], baseline="system 0")
    cell = made.row("twin").cells["a"]
    assert cell.holm == 1.0
    assert cell.verdict == "tie"
    assert any("equal on every query: no t-test" in note for note in made.notes)


# ---- the page in a browser ------------------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_the_page_opens_offline_and_obeys_keys(board, tmp_path):
    """At desktop and phone width nothing sticks out, nothing is loaded, no script complains; a column sorts by Tab and Enter."""
    page = tmp_path / "board.html"
    page.write_text(to_html(board))
    with Browser(tmp_path / "profile") as browser:
        for width, phone in ((1280, False), (390, True)):
            browser.messages.clear()
            browser.open(page, width, 844, phone)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.requests == [page.resolve().as_uri()]
            assert browser.errors == []
        names = "[...document.querySelectorAll('tbody tr:not([hidden]) th')].map(th => th.firstChild.textContent)"
        assert browser.run(names) == [row.system for row in board.rows]
        for _ in range(30):
            browser.press("Tab")
            if browser.run("document.activeElement.textContent") == "beir/scifact":
                break
        browser.press("Enter")
        known = sorted(
            (row for row in board.rows if "beir/scifact" in row.cells), key=lambda row: -row.cells["beir/scifact"].score
        )
        assert browser.run(names)[: len(known)] == [row.system for row in known]
        assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
        browser.run("document.getElementById('published').click()")
        assert set(browser.run(names)) == {row.system for row in board.local}


# ---- exports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doc_id", ["a b.txt", "50%", "%20", "tab\there", "ü ß", "no-break\u00a0space", "plain"])
def test_ids_with_spaces_come_back(doc_id):
    column = escaped(doc_id)
    assert column.split() == [column]
    assert unescaped(column) == doc_id


def test_escapes_that_are_none_are_refused():
    with pytest.raises(InputError, match="hexadecimal"):
        unescaped("50%")


def test_an_exported_run_keeps_our_order_everywhere(tmp_path):
    """Ties are lowered by the least step of float32, so that pytrec_eval, which breaks ties by id, ranks as we do."""
    import pytrec_eval

    run = Run.from_rankings(
        [("q 1", ["c c", "b", "a"], [1.0, 1.0, 1.0]), ("q2", ["x", "y"], [0.5, 0.50000000001])], name="my run"
    )
    assert write_trec(run, tmp_path / "run.txt") == 3
    rows = [line.split(" ") for line in (tmp_path / "run.txt").read_text().splitlines()]
    assert {len(row) for row in rows} == {6}
    assert [row[2] for row in rows] == ["c%20c", "b", "a", "y", "x"]
    assert [row[3] for row in rows] == ["1", "2", "3", "1", "2"]
    with open(tmp_path / "run.txt") as stream:
        theirs = pytrec_eval.parse_run(stream)
    judged = {"q%201": {"a": 1}, "q2": {"x": 1}}
    oracle = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(theirs)
    assert oracle["q%201"]["recip_rank"] == pytest.approx(1 / 3)
    assert oracle["q2"]["recip_rank"] == 0.5


def test_a_header_is_read_back_and_skipped(tmp_path):
    run = Run.from_rankings([("q", ["a"], [1.0])], name="r")
    write_trec(run, tmp_path / "run.txt", header={"tag": "r", "method": {"automatic": True}})
    assert read_metadata(tmp_path / "run.txt") == {"schema_version": 0.1, "tag": "r", "method": {"automatic": True}}
    assert read_run(tmp_path / "run.txt") == run
    write_trec(run, tmp_path / "plain.txt")
    with pytest.raises(InputError, match="no ir_metadata"):
        read_metadata(tmp_path / "plain.txt")
    with pytest.raises(UsageError, match="tag"):
        metadata_header({})


def test_bright_scores_and_what_they_refuse(tmp_path):
    run = Run.from_rankings([("q", ["a b", "c"], [2.0, 1.0])], name="r")
    write_bright_scores(run, tmp_path / "score.json", {"q": frozenset({"x"})})
    assert json.loads((tmp_path / "score.json").read_text()) == {"q": {"a b": 2.0, "c": 1.0}}
    with pytest.raises(InputError, match="excluded document 'c'"):
        write_bright_scores(run, tmp_path / "score.json", {"q": frozenset({"c"})})


def test_a_beir_bundle(tmp_path):
    run = Run.from_rankings([("q", ["a", "b"], [2.0, 1.0])], name="r")
    paths = write_beir_bundle({"beir/scifact": run}, tmp_path, {"beir/scifact": results()[0]})
    assert [path.name for path in paths] == ["run.beir.scifact.txt", "metadata.json"]
    assert read_run(paths[0]) == run
    assert json.loads(paths[1].read_text())["beir/scifact"]["provenance"]["date"] == "2026-11-29"
