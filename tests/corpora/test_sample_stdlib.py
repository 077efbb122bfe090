"""The built-in sample: the standard library's documentation, and questions with judgements written for it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import cribble.corpora.sample as sample
import cribble.corpora.stdlib_docstrings as stdlib_docstrings
import pytest
from cribble.corpora import load_dataset

QUESTIONS = json.loads((Path(sample.__file__).parent / "stdlib_queries.json").read_text(encoding="utf-8"))["questions"]


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("sample:stdlib")


def test_documents(dataset):
    documents = list(dataset.documents())
    ids = [document.id for document in documents]
    assert len(documents) == dataset.num_documents > 4000
    assert ids == sorted(set(ids))
    assert documents == list(dataset.documents())
    assert not any(set(id) & set(" \t\n") or "._" in id or id.startswith("_") for id in ids)
    assert all(len(document.text.split()) >= 3 and document.title == document.id for document in documents)
    assert dataset.get_many(["json.loads", "no.such"])["json.loads"].text.startswith("Deserialize ``s``")


@pytest.mark.parametrize(
    "name",
    [
        "json",
        "json.loads",
        "str.split",
        "open",
        "print",
        "random.choice",
        "os.path.join",
        "os.getcwd",
        "asyncio.run",
        "asyncio.TaskGroup",
        "collections.Counter.most_common",
        "pathlib.PurePath.suffix",
        "itertools.chain.from_iterable",
        "time.localtime",
        "concurrent.futures.ThreadPoolExecutor",
        "datetime.datetime.strptime",
        "logging.handlers.RotatingFileHandler",
    ],
)
def test_names_are_those_of_the_manual(dataset, name):
    assert name in dataset.get_many([name])


@pytest.mark.parametrize(
    "name",
    [
        "this",
        "antigravity",
        "idlelib",
        "test",
        "turtle",
        "functools.RLock",
        "random.Random.choice",
        "posixpath.join",
        "distutils",
        "asyncore",
        "logging.Formatter.converter",
        "concurrent.futures.thread.ThreadPoolExecutor",
        "bool.bit_length",
        "IntEnum.real",
    ],
)
def test_what_is_no_documentation_of_its_own(dataset, name):
    assert dataset.get_many([name]) == {}


def test_own_docstrings_only(dataset):
    texts = {document.id: document.text for document in dataset.documents()}
    assert "collections.Counter.keys" not in texts  # dict's
    assert "collections.OrderedDict" in texts
    assert not any(text.startswith("Alias for field number") for text in texts.values())
    assert len(set(texts.values())) > 0.93 * len(texts)


def test_questions_are_answered_by_this_interpreter(dataset, caplog):
    assert len(dataset.queries) == len(QUESTIONS) == 80
    known = {document.id for document in dataset.documents()}
    judged = {(row["id"], name) for row in QUESTIONS for name in row["judgements"]}
    absent = {(question, name) for question, name in judged if name not in known}
    if sys.version_info[:2] == (3, 11):  # the one the judgements were made on; others lack or rename a few
        assert absent == set()
    assert len(absent) < 0.1 * len(judged)
    for row in QUESTIONS:
        labels = dataset.qrels[row["id"]]
        assert max(labels.values()) == 2, row["id"]
        assert min(labels.values()) == 0, row["id"]
        assert len(labels) >= 4


def test_questions_are_distinct_and_in_plain_words():
    assert len({row["text"] for row in QUESTIONS}) == len({row["id"] for row in QUESTIONS}) == len(QUESTIONS)
    for row in QUESTIONS:
        assert not any(name in row["text"] for name in row["judgements"] if "." in name)
        assert set(row["judgements"].values()) <= {0, 1, 2}


def test_names_that_are_gone_are_counted(caplog):
    caplog.set_level(logging.INFO, "cribble")
    queries, qrels = sample._judged_questions({"json.loads", "dict.update"})
    assert [query.id for query in queries] == ["merge-dicts", "parse-json"]
    assert qrels.to_dict() == {"merge-dicts": {"dict.update": 2}, "parse-json": {"json.loads": 2}} | {
        query: labels for query, labels in qrels.to_dict().items() if query not in ("merge-dicts", "parse-json")
    }
    assert "judged names are not in Python" in caplog.text
    assert "78 questions have no answer" in caplog.text


SILENT = """
import sys, webbrowser, warnings
webbrowser.open = lambda *a, **k: sys.exit("a browser was opened")
warnings.simplefilter("error")
from cribble.corpora import load_dataset
n = load_dataset("sample:stdlib").num_documents
assert n > 4000 and not {"this", "antigravity", "idlelib", "readline", "tkinter", "turtle"} & set(sys.modules)
"""


def test_loading_has_no_side_effects(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", SILENT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_users_file_is_not_taken_for_the_librarys(tmp_path, monkeypatch):
    (tmp_path / "stringprep.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stringprep", raising=False)
    assert not stdlib_docstrings._is_of_the_library("stringprep")
    assert stdlib_docstrings._is_of_the_library("json")


def test_the_same_in_another_process(dataset):
    code = "from cribble.corpora.sample import stdlib_documents as d; import hashlib; print(hashlib.md5(repr(d()).encode()).hexdigest())"
    digests = {
        subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_what_the_process_has_patched_or_imported_does_not_change_the_corpus():
    plain = "from cribble.corpora.sample import stdlib_documents as d; import hashlib; print(hashlib.md5(repr(d()).encode()).hexdigest())"
    patched = (
        "import sys, json, typer, ranx\n"
        "def hook(*a):\n    'words of a replaced hook'\n"
        "sys.excepthook = hook\njson.dumps = hook\n" + plain
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for code in (plain, patched)
    ]
    assert runs[0] == runs[1]
