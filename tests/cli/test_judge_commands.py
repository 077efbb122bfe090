"""`cribble judge` and `agreement` through the console script, over the oracle backend and a server on 127.0.0.1."""

import pytest
from cribble.records import Qrels
from cribble.tests.cli.script import DOCUMENTS, JUDGED, QUERIES, write_files
from cribble.tests.models.loopback_llm import LoopbackLLM

RUNS = {
    "up.trec": "".join(f"{q} Q0 {d} {i + 1} {50 - i} x\n" for q in QUERIES for i, d in enumerate(DOCUMENTS)),
    "down.trec": "".join(f"{q} Q0 {d} {i + 1} {i} x\n" for q in QUERIES for i, d in enumerate(DOCUMENTS)),
}


@pytest.fixture(scope="module")
def folder(collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("judge")
    human = "".join(f"{q} 0 {d} {label}\n" for q, row in JUDGED.items() for d, label in row.items())
    write_files(path, RUNS | {"human.txt": human})
    (path / "b").symlink_to(collection)
    return path


def test_holes_are_filled_and_every_score_says_so(cribble, folder):
    command = ("judge", "up.trec", "down.trec", "--dataset", "beir:b", "--backend", "fake", "--fill", "--depth", "3")
    planned = cribble(*command, "--out", "f.txt", "--dry-run", "--json", cwd=folder).results
    assert not (folder / "f.txt").exists()
    done = cribble(*command, "--out", "f.txt", "--measures", "nDCG@3 AP", "--json", cwd=folder).results
    holes = [(q, d) for q in QUERIES for d in (*list(DOCUMENTS)[:3], *list(DOCUMENTS)[-3:]) if d not in JUDGED[q]]
    assert planned["calls"] == done["counts"]["calls"] == len(holes)
    assert planned["prompt_tokens"] == done["counts"]["prompt_tokens"]
    filled = Qrels.read(folder / "f.txt")
    assert set(filled.machine_pairs()) == set(holes)
    assert {q: {d: label for d, label in filled[q].items() if d in JUDGED[q]} for q in filled} == JUDGED
    assert list(done["scores"]["up"]["before"]) == ["nDCG@3", "AP"]
    assert list(done["scores"]["up"]["filled"]) == ["nDCG@3", "Machine@3", "AP", "Machine"]
    scored = cribble("eval", "up.trec", "--qrels", "f.txt", "--measures", "nDCG@3 AP", "--json", cwd=folder).results
    assert scored["up"] == done["scores"]["up"]["filled"]
    assert 0 < scored["up"]["Machine@3"] < 1
    table = cribble("eval", "up.trec", "--qrels", "f.txt", "--measures", "nDCG@3 AP", cwd=folder).out.splitlines()
    assert table[0].split() == ["run", "nDCG@3", "Machine@3", "AP", "Machine", "queries", "missing"]
    assert table[1].split()[:3] == ["up", f"{scored['up']['nDCG@3']:.4f}", f"{scored['up']['Machine@3']:.4f}"]
    shown = cribble("compare", "up.trec", "down.trec", "--qrels", "f.txt", "--measures", "nDCG@3", cwd=folder)
    assert "Machine@3" in shown.out
    plain = cribble("eval", "up.trec", "--qrels", "human.txt", "--measures", "nDCG@3", "--json", cwd=folder).results
    assert list(plain["up"]) == ["nDCG@3"]
    assert plain["up"]["nDCG@3"] == done["scores"]["up"]["before"]["nDCG@3"]
    full = ("--dataset", "beir:b", "--backend", "fake", "--fill", "--qrels", "f.txt", "--depth", "3")
    again = cribble("judge", "up.trec", *full, "--out", "g.txt", cwd=folder)
    assert again.code == 3
    assert "every document among the best 3 is judged already" in again.error


def test_agreement_with_people(cribble, folder):
    command = ("judge", "--pairs", "human.txt", "--dataset", "beir:b", "--backend", "fake", "--out", "m.txt")
    told = cribble(*command, "--agreement", "human.txt", "--json", cwd=folder).results
    assert told["agreement"]["counts"]["pairs"] == sum(map(len, JUDGED.values()))
    apart = cribble(
        "agreement", "m.txt", "human.txt", "up.trec", "down.trec", "--scale", "0:3", "--json", cwd=folder
    ).results
    assert apart["agreement"] == told["agreement"]
    (systems,) = apart["systems"]
    assert (systems["measure"], systems["systems"]) == ("nDCG@10", 2)
    same = cribble("agreement", "human.txt", "human.txt", "up.trec", "down.trec", "--json", cwd=folder).results
    assert same["agreement"]["kappa"] == same["agreement"]["alpha_ordinal"] == same["systems"][0]["tau"] == 1.0
    shown = cribble("agreement", "m.txt", "human.txt", cwd=folder).out
    assert "Cohen's κ" in shown
    assert "κ of label ≥ 2" in shown


def test_failures_are_told_apart_and_stay_unjudged(cribble, folder):
    command = ("judge", "--pairs", "human.txt", "--dataset", "beir:b", "--backend", "fake", "--out", "x.txt", "--json")
    options = ("--set", "backend.malformed=0.4", "--set", "backend.seed=2")
    done = cribble(*command, *options, cwd=folder).answer
    failed = done["results"]["failed"]
    assert failed
    assert done["results"]["counts"]["failed_pairs"] == len(failed)
    assert "have no label that could be read" in done["warnings"][0]
    labels = Qrels.read(folder / "x.txt")
    assert labels.num_rows == sum(map(len, JUDGED.values())) - len(failed)
    refused = cribble(*command, *options, "--max-failure-rate", "0.05", cwd=folder)
    assert refused.code == 3
    assert "max_failure_rate=0.05" in refused.error


def test_the_ledger_pays_for_nothing_twice(cribble, folder):
    with LoopbackLLM() as server:
        answer = server.answers
        server.answers = lambda path, body: _graded(answer(path, body), path)
        command = ("judge", "--pairs", "human.txt", "--dataset", "beir:b", "--backend", "openai", "--model", "loopback")
        command += ("--set", f"backend.url={server.url}", "--ledger", "own.sqlite", "--out", "l.txt", "--json")
        first = cribble(*command, cwd=folder).results
        asked = len(server.asked)
        second = cribble(*command, cwd=folder).results
        assert len(server.asked) == asked == first["counts"]["calls"]
    assert (first["counts"]["reused_calls"], second["counts"]["reused_calls"]) == (0, asked)
    assert first["labels"] == second["labels"] == {"2": asked}


def _graded(answer, path):
    if path == "/v1/chat/completions":
        answer["choices"][0] |= {
            "message": {"role": "assistant", "content": "##final score: 2"},
            "finish_reason": "stop",
        }
    return answer


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("judge", "--dataset", "beir:b", "--out", "o.txt"), 2, "nothing to judge: name runs, or --pairs QRELS"),
        (("judge", "up.trec", "--dataset", "beir:b", "--out", "o.tsv"), 2, "BEIR's columns can't say"),
        (
            ("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--grader", "umbrella"),
            2,
            "did you mean 'umbrela'",
        ),
        (("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--qrels", "human.txt"), 2, "add --fill"),
        (
            ("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--pairs", "human.txt"),
            2,
            "leave out the runs",
        ),
        (("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--depth", "0"), 2, "depth is 0"),
        (
            ("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--set", "sample=3"),
            2,
            "did you mean 'samples'",
        ),
        (
            ("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--max-failure-rate", "2"),
            2,
            "expected a share",
        ),
        (("judge", "--pairs", "human.txt", "--depth", "3", "--dataset", "beir:b", "--out", "o.txt"), 2, "and --depth"),
        (("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--measures", "AP"), 2, "--measures score runs"),
        (
            ("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--measures", "AQ", "--fill"),
            2,
            "'AQ' is unknown",
        ),
        (("judge", "up.trec", "--dataset", "beir:b", "--out", "o.txt", "--agreement", "none.txt"), 3, "none.txt"),
        (("agreement", "human.txt", "human.txt", "--scale", "3"), 2, "--scale '3': expected"),
        (("agreement", "human.txt", "human.txt", "--scale", "3:0"), 2, "expected the lowest label and a higher one"),
        (("agreement", "human.txt", "human.txt", "up.trec"), 2, "a ranking of systems needs two runs or more"),
        (("agreement", "human.txt", "none.txt"), 3, "none.txt"),
    ],
)
def test_refusals(cribble, folder, arguments, code, told):
    backend = ("--backend", "fake") if arguments[0] == "judge" else ()
    done = cribble(*arguments, *backend, cwd=folder)
    assert (done.code, told in done.error) == (code, True), done.err
