"""add, delete and compact through the console script, on one dense index with metadata."""

import json
import shutil

import pytest
from cribble.tests.cli.script import DOCUMENTS, json_lines

NEW = [
    {"_id": "cello", "text": "A cello has four strings and sounds lower than a violin.", "metadata": {"year": 1740}},
    {"_id": "harp", "text": "A harp has many strings, which are plucked.", "metadata": {"year": 1810}},
]


@pytest.fixture(scope="module")
def place(cribble, dense_index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    shutil.copytree(dense_index, folder / "i")
    (folder / "new.jsonl").write_bytes(json_lines(NEW))
    (folder / "ids.txt").write_text("wine\n\nbread\n")
    would = cribble("add", "i", "jsonl:new.jsonl", "--dry-run", "--json", cwd=folder)
    assert (would.results["dry_run"], would.results["added"], would.results["generation"]) == (True, 2, 0)
    done = cribble("add", "i", "jsonl:new.jsonl", "--json", cwd=folder)
    assert (done.results["added"], done.results["documents"]) == (2, len(DOCUMENTS) + 2)
    return folder


def test_what_was_added_is_found_under_filters_deleted_and_compacted_away(cribble, place, tmp_path):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    place = tmp_path
    found = cribble("search", "i", "strings", "--k", "3", "--set", "where=year > 1800", "--json", cwd=place)
    assert [hit["id"] for hit in found.results] == ["harp"]
    found = cribble("search", "i", "strings", "--k", "3", "--set", "deny=[cello, violin, piano]", "--json", cwd=place)
    assert found.results[0]["id"] == "harp"
    gone = cribble("delete", "i", "--from", "ids.txt", "--json", cwd=place)
    assert (gone.results["deleted"], gone.results["documents"], gone.results["rows"]) == (2, len(DOCUMENTS), 14)
    small = cribble("compact", "i", cwd=place)
    assert "2 deleted documents removed; now 12 documents" in small.out
    assert "generation 3, 0 deleted rows to compact" in cribble("doctor", "i", cwd=place).out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["add", "i", "jsonl:new.jsonl"],
            3,
            "2 of 2 documents have ids that are in the index already ('cello', 'harp')",
        ),
        (["delete", "i", "cat", "unicorn"], 3, "1 of 2 ids are not in the index ('unicorn')"),
        (["delete", "i"], 2, "--from"),
        (["delete", "i", "cat", "--from", "ids.txt"], 2, "--from"),
        (["delete", "i", "--from", "none.txt"], 3, "none.txt does not exist"),
        (["compact", "nowhere"], 4, "no such folder"),
        (["search", "i", "x", "--set", "where=yaer > 1"], 2, "no column 'yaer': did you mean 'year'"),
        (["search", "i", "x", "--set", "allow=none.txt"], 3, "none.txt does not exist"),
    ],
)
def test_what_is_refused_has_its_exit_code(cribble, place, arguments, code, told):
    done = cribble(*arguments, cwd=place)
    assert done.code == code
    assert told in done.error


def test_unknown_ids_can_be_ignored_and_are_counted(cribble, place):
    done = cribble("delete", "i", "cat", "unicorn", "--ignore-unknown", "--dry-run", "--json", cwd=place)
    assert json.loads(done.out)["results"] | {"seconds": 0} == done.results | {"seconds": 0}
    assert (done.results["deleted"], done.results["unknown"]) == (1, 1)
