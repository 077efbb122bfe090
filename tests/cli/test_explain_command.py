"""`cribble search --explain` by the console script: plain in a pipe, coloured on a terminal, refused where nothing matches."""

import io
import json
import os
import pty
import re

import pytest
from cribble.commands.explaining import explained, hit_lines
from cribble.explanation import Explanation, TokenMatch, TokenText
from cribble.records import DescribedDocument, Document
from cribble.retrievers.given import Given
from cribble.stage import Hit
from cribble.tests.cli.script import DOCUMENTS

ASKED = "which animal hunts mice at night"


@pytest.fixture(scope="module")
def late_index(cribble, collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("indexes") / "late"
    options = ["--set", "storage=float32", "--json"]
    done = cribble("index", f"beir:{collection}", "--retriever", "late", "--out", path, *options, cwd=path.parent)
    assert done.results["documents"] == len(DOCUMENTS)
    return path


def on_a_terminal(cribble, *arguments, cwd):
    """What the script writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    process = cribble.start(*arguments, cwd=cwd, env={"TERM": "xterm-256color", "COLUMNS": "100"}, stdout=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 1 << 14)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    _, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, err
    return written.decode().replace("\r\n", "\n")


def test_json_has_what_adds_up_to_the_score(cribble, late_index, tmp_path):
    hits = cribble("search", late_index, ASKED, "--k", "3", "--explain", "--json", cwd=tmp_path).results
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    for hit in hits:
        why = hit["explanation"]
        assert sum(match["contribution"] for match in why["matches"]) == pytest.approx(hit["score"], rel=1e-4)
        assert why["stage_score"] == pytest.approx(hit["score"], rel=1e-6)
        assert [m["query"]["token"] for m in why["matches"]][:3] == ["[CLS]", "which", "animal"]
        full = f"{hit['title']} {hit['text']}".strip()
        assert all(full[slice(*word["span"])] == word["word"] for word in why["words"])


def test_in_a_pipe_contributions_stand_behind_words(cribble, late_index, tmp_path):
    done = cribble("search", late_index, ASKED, "--k", "2", "--explain", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert re.match(r"1  \d\.\d{4}  (cat|owl)\n   (Cats|Owls).* mice\[\d\.\d\d\]", done.out)
    assert re.search(r"\n   query token +adds  best match in the document\n", done.out)
    assert re.search(r"\n   mice +0\.\d{4}  mice\n", done.out)
    assert len(re.findall(r"^\d  ", done.out, re.MULTILINE)) == 2


def test_on_a_terminal_words_are_coloured(cribble, late_index, tmp_path):
    command = ("search", late_index, ASKED, "--k", "1", "--explain")
    shown = on_a_terminal(cribble, *command, cwd=tmp_path)
    assert re.search(r"\x1b\[30;48;5;\d+mmice\x1b\[0m", shown)
    assert "mice[" not in shown


def test_no_color_is_kept(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    mice = TokenText("mice", "text", (5, 9), "mice", (5, 9))
    why = Explanation("mice", Document("cat", "Cats mice"), "late", (TokenMatch(mice, 0.5, mice),), 0.5)
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    assert "[30;48;5;" in hit_lines([Hit(1, 0.5, why.document)], [why])[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert hit_lines([Hit(1, 0.5, why.document)], [why])[1].endswith("Cats mice[0.50]")


@pytest.mark.parametrize("asked", ["qu’est-ce qu’un 🦊?", "a " * 600])
def test_odd_queries(cribble, late_index, tmp_path, asked):
    done = cribble("search", late_index, asked, "--k", "1", "--explain", cwd=tmp_path)
    assert done.code == 0, done.err
    assert ("the query has more tokens than the model reads" in done.out) == (len(asked) > 99)
    assert ("🦊" in done.out) == ("🦊" in asked)


def test_pictures_and_scores_of_later_stages():
    mice = TokenText("mice", "text", (5, 9), "mice", (5, 9))
    why = Explanation("mice", Document("cat", "Cats mice"), "late", (TokenMatch(mice, 0.5, mice),), 0.5, ("of all",))
    picture = DescribedDocument.of(Document("p", ""), {"image_file": "p.png"})
    hits = [Hit(1, 0.25, why.document), Hit(2, 0.1, picture), Hit(3, 0.5, why.document)]
    assert explained(Given("none.trec"), "mice", hits[1:2]) == [None]
    lines = hit_lines(hits, [why, None, why])
    assert lines[0] == "1  0.2500  cat"
    assert "   (late: 'cat' has 0.5000)" in lines[:6]
    assert lines.count("   (late: 'cat' has 0.5000)") == 1
    assert "   (a picture: only matches in texts can be shown)" in lines
    assert lines.count("(of all)") == 1
    assert lines[-1] == "(of all)"


def test_through_a_config_the_last_stage_is_explained(cribble, collection, late_index, tmp_path):
    stages = [{"use": "late", "index": str(late_index)}, {"use": "maxsim", "depth": 5}]
    (tmp_path / "c.yaml").write_text(json.dumps({"dataset": f"beir:{collection}", "pipeline": stages}))
    hits = cribble("search", "c.yaml", ASKED, "--k", "1", "--explain", "--json", cwd=tmp_path).results
    assert hits[0]["explanation"]["stage"] == "maxsim"
    assert hits[0]["explanation"]["score"] == pytest.approx(hits[0]["score"], rel=1e-4)


def test_other_kinds_and_nothing_to_ask_are_refused(cribble, dense_index, late_index, tmp_path):
    done = cribble("search", dense_index, ASKED, "--explain", cwd=tmp_path)
    assert done.code == 2
    assert "--explain shows which token vectors matched, and dense has none" in done.error
    assert "--retriever late" in done.error
    empty = cribble("search", late_index, "  ", "--explain", cwd=tmp_path)
    assert (empty.code, "the text to search for is empty" in empty.error) == (2, True)
    typed = cribble("search", late_index, "x", "--explian", cwd=tmp_path)
    assert (typed.code, "--explain" in typed.error) == (2, True)
    assert "--explain" in cribble("search", "--help", cwd=tmp_path).out
