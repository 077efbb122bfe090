"""`cribble ledger` through the console script, over a ledger that this process filled; counts and costs by hand."""

import gzip
import json
import math
import sqlite3

import pytest
from cribble.commands.ledger import export_ledger, prune_ledger
from cribble.errors import UsageError
from cribble.models.calls import GenerateCall, LabelCall, Prompt, Reply, Request, Usage
from cribble.models.ledger import Ledger
from cribble.records import Document, Query

OLD = "2020-01-01T00:00:00.000+00:00"


@pytest.fixture
def place(tmp_path):
    """A folder with `l.sqlite`: 3 + 2 judgements of org/a, 1 of org/b; two of them are from 2020, the others of now."""
    request = Request("order", Query("q1", "x"), (Document("d1", "x"), Document("d2", "y")))
    with Ledger.at(tmp_path / "l.sqlite") as ledger:
        for i in range(3):
            call = LabelCall(Prompt(text=str(i)), ("A", "B"), request)
            ledger.add(f"label{i}", "org/a", call, Reply(Usage(10, 4, 1), (1.0, math.nan)))
        for i in range(2):
            call = GenerateCall(Prompt(text=str(i)), 9, request=request._replace(query=Query("q2", "x")))
            ledger.add(f"text{i}", "org/a", call, Reply(Usage(20, 0, 5), text="[2] > [1]"))
        ledger.add("other", "org/b", LabelCall(Prompt(), ("A",)), Reply(Usage(7, 0, 1), (0.5,)))
    connection = sqlite3.connect(tmp_path / "l.sqlite")
    connection.execute(f"UPDATE judgements SET created = '{OLD}' WHERE key IN ('label0', 'other')")
    connection.commit()
    connection.close()
    return tmp_path


def test_show_counts_by_model_and_kind(cribble, place):
    done = cribble("ledger", "show", "--path", "l.sqlite", "--json", cwd=place)
    assert done.answer["command"] == "ledger show"
    results = done.results
    assert (results["ledger"], results["judgements"]) == ("l.sqlite", 6)
    assert results["file_bytes"] >= (place / "l.sqlite").stat().st_size > 0
    counted = {(g["model"], g["kind"]): g for g in results["groups"]}
    assert {place: g["judgements"] for place, g in counted.items()} == {
        ("org/a", "GenerateCall"): 2,
        ("org/a", "LabelCall"): 3,
        ("org/b", "LabelCall"): 1,
    }
    labels = counted["org/a", "LabelCall"]
    assert (labels["prompt_tokens"], labels["cached_tokens"], labels["new_tokens"]) == (30, 12, 3)
    assert labels["oldest"] == OLD < labels["newest"]
    shown = cribble("ledger", "show", "--path", "l.sqlite", "--model", "org/b", cwd=place)
    assert shown.code == 0
    assert "org/b" in shown.out
    assert "org/a" not in shown.out
    assert "l.sqlite: 1 judgements" in shown.out


def test_show_of_the_cache_folder(cribble, tmp_path):
    env = {"CRIBBLE_CACHE": str(tmp_path / "cache")}
    done = cribble("ledger", "show", "--json", cwd=tmp_path, env=env)
    assert (done.results["judgements"], done.results["groups"]) == (0, [])
    assert not (tmp_path / "cache").exists()
    Ledger.at(tmp_path / "cache" / "ledger.sqlite").close()
    done = cribble("ledger", "show", "--json", cwd=tmp_path, env=env)
    assert done.results["ledger"] == str(tmp_path / "cache" / "ledger.sqlite")


def test_export_writes_every_judgement_once(cribble, place):
    done = cribble("ledger", "export", "all.jsonl", "--path", "l.sqlite", "--json", cwd=place)
    assert done.results == {"out": "all.jsonl", "judgements": 6}
    rows = [json.loads(line) for line in (place / "all.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["label0", "label1", "label2", "text0", "text1", "other"]
    assert rows[0]["reply"] == {"values": [1.0, None], "text": "", "finish": "stop"}
    assert rows[0]["usage"] == {"prompt": 10, "cached": 4, "new": 1}
    assert (rows[3]["query_id"], rows[3]["doc_ids"], rows[3]["reply"]["text"]) == ("q2", ["d1", "d2"], "[2] > [1]")
    assert (rows[5]["query_id"], rows[5]["doc_ids"]) == (None, [])


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"model": "org/a"}, 5),
        ({"kind": "LabelCall"}, 4),
        ({"query": "q2"}, 2),
        ({"model": "org/a", "kind": "LabelCall", "query": "q2"}, 0),
    ],
)
def test_export_filters(place, filters, count):
    done = export_ledger(place / "some.jsonl.gz", place / "l.sqlite", **filters)
    assert done.results["judgements"] == count
    assert len(gzip.decompress((place / "some.jsonl.gz").read_bytes()).splitlines()) == count


def keys(place):
    with Ledger.at(place / "l.sqlite") as ledger:
        return {row.key for row in ledger.rows()}


@pytest.mark.parametrize(
    ("filters", "pruned"),
    [
        ({"older_than": "30d"}, {"label0", "other"}),
        ({"older_than": "2w", "model": "org/a"}, {"label0"}),
        ({"model": "org/b"}, {"other"}),
        ({"older_than": "9999w"}, set()),
        ({"older_than": "0d"}, {"label0", "label1", "label2", "text0", "text1", "other"}),
    ],
)
def test_prune(place, filters, pruned):
    before = keys(place)
    told = prune_ledger(place / "l.sqlite", dry_run=True, **filters).results
    assert (told["dry_run"], told["pruned"], told["judgements"]) == (True, len(pruned), 6)
    assert keys(place) == before
    done = prune_ledger(place / "l.sqlite", **filters).results
    assert (done["dry_run"], done["pruned"], done["judgements"]) == (False, len(pruned), 6 - len(pruned))
    assert keys(place) == before - pruned


def test_prune_gives_the_space_back(cribble, place):
    with Ledger.at(place / "l.sqlite") as ledger:
        for i in range(300):
            ledger.add(str(i), "org/c", LabelCall(Prompt(), ("A",)), Reply(text="x" * 2000))
    before = (place / "l.sqlite").stat().st_size
    command = ["ledger", "prune", "--path", "l.sqlite", "--model", "org/c", "--older-than", "0h", "--json"]
    assert cribble(*command, "--dry-run", cwd=place).results["pruned"] == 300
    done = cribble(*command, cwd=place)
    assert done.results["pruned"] == 300
    assert done.results["file_bytes"] < before / 5
    assert (place / "l.sqlite").stat().st_size < before / 5


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("show --path text", 3, "text is no SQLite file"),
        ("show --path l.sqlite --model org/aa", 2, "did you mean 'org/a'?"),
        ("export all.csv --path l.sqlite", 2, "all.csv: judgements are exported as JSON Lines"),
        ("prune --path l.sqlite", 2, "--older-than 30d or --model NAME"),
        ("prune --path none.sqlite --older-than 1d", 3, "none.sqlite: there is no ledger"),
        ("shw", 2, "shw"),
    ],
)
def test_mistakes(cribble, place, command, code, words):
    (place / "text").write_text("not a database, but long enough to have the header of one" * 3)
    done = cribble("ledger", *command.split(), cwd=place)
    assert done.code == code
    assert words in done.error
    assert not (place / "none.sqlite").exists()


def test_more_mistakes(place):
    with pytest.raises(UsageError, match=r"--kind 'label': .*LabelCall"):
        export_ledger(place / "all.jsonl", place / "l.sqlite", kind="label")
    for text in ("soon", "99999w", "-3d", "3", ""):
        with pytest.raises(UsageError, match="at most four digits and a unit"):
            prune_ledger(place / "l.sqlite", older_than=text)
    assert not (place / "all.jsonl").exists()
    assert len(keys(place)) == 6
