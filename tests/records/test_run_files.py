"""Run files: what is written reads back, what is odd stays what it is, what is broken is refused by file and line."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cribble.errors import InputError, UsageError
from cribble.files import RegularText
from cribble.records import Run
from cribble.run_files import _read_trec_fast, _read_trec_slow, _run_of_rows, read_run
from hypothesis import given, settings
from hypothesis import strategies as st

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
#: Any text without ASCII white space, surrogates and a byte-order mark in front.
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\v\f\r \ufeff"), min_size=1).filter(
    lambda text: text != "#"
)
SPECIAL = [
    -0.0,
    0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1e308,
    1.7976931348623157e308,
    0.1,
    1 / 3,
    1e22,
    123456789.0,
]
ODD_IDS = ["#1", '"a"', '"', "'", "N/A", "null", "NULL", "nan", "NaN", "None", "", "true", "1e5", "007", "0x1F", "-", "\\N", "a,b", "é", "文書", "😀", "a\u00a0b", "全\u3000角", "\u0085x", "\x1cy", "a\\b", "q;r"]  # fmt: skip  # noqa: E501


def bits(run):
    return run.scores.view(np.int64).tolist()


def written(tmp_path, text, name="run.trec"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def slow(path):
    return _run_of_rows(*_read_trec_slow(path))


# ---- round trips


@pytest.mark.parametrize("ending", ["trec", "txt", "trec.gz", "parquet", "parquet.gz"])
@settings(max_examples=20, deadline=None)
@given(data=st.dictionaries(IDS, st.dictionaries(IDS, NUMBERS, min_size=1, max_size=5), min_size=1, max_size=4))
def test_round_trip_is_bit_equal(tmp_path_factory, ending, data):
    run = Run.from_dict(data)
    path = tmp_path_factory.mktemp("round") / f"run.{ending}"
    run.write(path)
    back = Run.read(path)
    assert back == run
    assert bits(back) == bits(run)


@pytest.mark.parametrize("read", [read_run, slow], ids=["fast", "slow"])
def test_special_scores_read_back(tmp_path, read):
    run = Run.from_dict({"q": {f"d{i}": score for i, score in enumerate(SPECIAL)}})
    run.write(tmp_path / "r.trec")
    back = read(tmp_path / "r.trec")
    assert bits(back) == bits(run)
    assert len(set(bits(back))) == len(SPECIAL)


@settings(max_examples=100, deadline=None)
@given(scores=st.lists(NUMBERS, min_size=1, max_size=50))
def test_python_reads_the_written_scores(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("scores") / "r.trec"
    run = Run("q", np.array([0, len(scores)]), [f"d{i}" for i in range(len(scores))], scores)
    run.write(path)
    read = [float(line.split()[4]) for line in path.read_text().splitlines()]
    assert np.array(read).view(np.int64).tolist() == bits(run)


@pytest.mark.parametrize("column", ["query", "document"])
def test_odd_ids_stay_strings(tmp_path, column):
    ids = [i for i in ODD_IDS if i]
    data = {i: {"d": 1.0} for i in ids} if column == "query" else {"q": {i: float(-n) for n, i in enumerate(ids)}}
    run = Run.from_dict(data)
    run.write(tmp_path / "r.trec")
    assert Run.read(tmp_path / "r.trec") == run
    assert slow(tmp_path / "r.trec") == run


def test_written_lines(tmp_path):
    Run.from_dict({"q1": {"a": 1.5, "b": 2.0}, "q2": {"c": -1}}, name="my run").write(tmp_path / "new/r.txt")
    lines = (tmp_path / "new/r.txt").read_text().splitlines()
    assert [line.split()[:4] + line.split()[5:] for line in lines] == [
        ["q1", "Q0", "b", "1", "my_run"],
        ["q1", "Q0", "a", "2", "my_run"],
        ["q2", "Q0", "c", "1", "my_run"],
    ]
    assert [float(line.split()[4]) for line in lines] == [2.0, 1.5, -1.0]


def test_many_rows_go_through_several_writes(tmp_path):
    n = (1 << 18) + 7
    scores = np.random.default_rng(1).normal(size=n)
    run = Run(["q1", "q2"], np.array([0, 5, n]), [f"doc{i}" for i in range(n)], scores)
    run.write(tmp_path / "r.trec")
    assert bits(Run.read(tmp_path / "r.trec")) == bits(run)


@pytest.mark.parametrize("bad", ["a b", "a\tb", "", "a\vb", "line\nend"])
def test_white_space_is_refused_in_trec_and_kept_in_parquet(tmp_path, bad):
    for run in (Run.from_dict({"q": {bad: 1.0}}), Run.from_dict({bad: {"d": 1.0}})):
        with pytest.raises(InputError, match=r"r\.trec: the (query|document) id .* write \.parquet"):
            run.write(tmp_path / "r.trec")
        assert list(tmp_path.glob("*.trec*")) == []
        run.write(tmp_path / "r.parquet")
        assert Run.read(tmp_path / "r.parquet") == run


@pytest.mark.parametrize("bad", ["#", "\ufeffq"])
def test_query_ids_that_read_otherwise_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match="the query id"):
        Run.from_dict({bad: {"d": 1.0}}).write(tmp_path / "r.trec")


def test_queries_without_documents_are_counted(tmp_path, caplog):
    run = Run.from_dict({"q1": {"a": 1.0}, "q2": {}, "q3": {}})
    run.write(tmp_path / "r.trec")
    assert [r.getMessage() for r in caplog.records if "2 queries without documents" in r.getMessage()]
    assert list(Run.read(tmp_path / "r.trec")) == ["q1"]


def test_jsonl_needs_texts(tmp_path):
    with pytest.raises(UsageError, match="write_requests"):
        Run.from_dict({"q": {"d": 1.0}}).write(tmp_path / "r.jsonl")


# ---- reading what others wrote

ROWS = ["q1 Q0 b 1 2.5 t", "q1 Q0 a 2 2.5 t", "q2 Q0 a 1 -1e-3 t"]
GOOD = Run.from_dict({"q1": {"b": 2.5, "a": 2.5}, "q2": {"a": -1e-3}})


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ROWS),
        "\n".join(ROWS) + "\n",
        "\r\n".join(ROWS) + "\r\n",
        "\r\n".join(ROWS),
        "\ufeff" + "\n".join(ROWS),
        "\ufeff" + "\r\n".join(ROWS) + "\r\n",
        "\n".join(ROWS).replace(" ", "\t"),
        "\n".join(ROWS).replace(" ", "  "),
        "\n".join(ROWS).replace(" ", " \t "),
        ROWS[0].replace(" ", "\t") + "\n" + "\n".join(ROWS[1:]),
        ROWS[0] + "\n" + "\n".join(ROWS[1:]).replace(" ", "\t"),
        "\n\n" + "\n\n".join(ROWS) + "\n\n\n",
        "\n".join(ROWS) + "\n \t \n",
        "# a comment\n" + "\n".join(ROWS),
        "# a comment with 6 words\n" + "\n".join(ROWS),
        "# Q0 d 1 2.0 t\n" + "\n".join(ROWS),
        ROWS[0] + "\n#more\n#\n" + "\n".join(ROWS[1:]),
        "\n".join(f" {row} " for row in ROWS),
        "\n".join(f"{row} " for row in ROWS),
        "\n".join([ROWS[0], ROWS[2], ROWS[1]]),
        "\n".join([ROWS[1], ROWS[0], ROWS[2]]),
        "\n".join(ROWS).replace(" t", " \u00e9\u3000\u00e9"),
        "\n".join(ROWS).replace("Q0", "0").replace("-1e-3", "-0.001"),
        "\n".join(ROWS).replace("2.5", "+2.50"),
    ],
)
def test_usual_and_unusual_forms(tmp_path, text):
    path = written(tmp_path, text)
    assert read_run(path) == GOOD
    assert slow(path) == GOOD
    packed = written(tmp_path, gzip.compress(text.encode()), "run.trec.gz")
    assert read_run(packed) == GOOD


def test_gzip_of_several_members(tmp_path):
    parts = [gzip.compress((row + "\n").encode()) for row in ROWS]
    assert read_run(written(tmp_path, b"".join(parts), "run.gz")) == GOOD


def test_name_is_the_stem(tmp_path):
    assert read_run(written(tmp_path, ROWS[0], "bm25.v2.trec.gz".removesuffix(".gz"))).name == "bm25.v2"
    assert read_run(written(tmp_path, ROWS[0]), name="other").name == "other"
    assert read_run(written(tmp_path, ROWS[0]), score_kind="bm25").score_kind == "bm25"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (ROWS[0] + "\nq1 Q0 a 2 2.5\n", r"run\.trec:2: 5 fields, expected 6"),
        ("q1 Q0 b  1 2.5\n", r"run\.trec:1: 5 fields, expected 6"),
        ("q1  Q0 12 1 2.5\n", r"run\.trec:1: 5 fields, expected 6"),
        ("q1 Q0 12 1 2.5 \n", r"run\.trec:1: 5 fields, expected 6"),
        (ROWS[0] + "\nq1 Q0 a 2 2.5 t x\n", r"run\.trec:2: 7 fields, expected 6"),
        ("q1 Q0 a b 2 2.5 t\n", r"run\.trec:1: 7 fields"),
        (ROWS[0] + "\n\n# x\nq1 Q0 a 2 0x1p3 t", r"run\.trec:4: the score '0x1p3' is no number"),
        ("q1 Q0 a 2 high t", r"run\.trec:1: the score 'high' is no number"),
        ("q1 Q0 a 2 1_000 t", r"run\.trec:1: the score '1_000' is no number"),
        ("q1 Q0 a 2 1,5 t", r"run\.trec:1: the score '1,5' is no number"),
        ("q1 Q0 a 2 \u0661 t", r"run\.trec:1: the score '\u0661' is no number"),
        ("q1 Q0 a 2 nan t", r"run\.trec: .*'q1', document 'a' has the score nan"),
        ("q1 Q0 a 2 -inf t", r"run\.trec: .*'q1', document 'a' has the score -inf"),
        ("q1 Q0 a 2 1e999 t", r"run\.trec: .*'q1', document 'a' has the score inf"),
        (ROWS[0] + "\n" + ROWS[0], r"run\.trec: .*query 'q1' has document 'b' twice"),
        (b"q1 Q0 \xff 1 1.0 t", r"run\.trec:1: not UTF-8 at byte 6"),
        ("\n".join(ROWS).encode("utf-16"), r"run\.trec:1: not UTF-8"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        read_run(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "# nothing\n"])
def test_empty_files_are_empty_runs_and_said(tmp_path, caplog, text):
    assert len(read_run(written(tmp_path, text))) == 0
    assert [r.getMessage() for r in caplog.records] == [f"{tmp_path / 'run.trec'} holds no rows"]


def test_missing_file_and_folder(tmp_path):
    for name in ("none.trec", "none.parquet", "none.jsonl", "none.trec.gz"):
        with pytest.raises(InputError, match=rf"{name} does not exist"):
            read_run(tmp_path / name)
    (tmp_path / "folder.parquet").mkdir()
    for name in (".", "folder.parquet"):
        with pytest.raises(InputError, match="is a folder, expected a file"):
            read_run(tmp_path / name)


def test_damaged_gzip(tmp_path):
    rng = np.random.default_rng(5)
    text = "".join(f"q Q0 d{i} 1 {score} t\n" for i, score in enumerate(rng.normal(size=3000)))
    whole = gzip.compress(text.encode())
    assert read_run(written(tmp_path, whole, "run.trec.gz")).num_rows == 3000
    for length in (5, 60, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        with pytest.raises(InputError, match=r"run\.trec\.gz"):
            read_run(written(tmp_path, whole[:length], "run.trec.gz"))
    for place in [*rng.integers(10, len(whole) - 4, 20).tolist(), len(whole) - 6]:
        hurt = bytearray(whole)
        hurt[place] ^= 0x10
        with pytest.raises(InputError, match=r"run\.trec\.gz"):
            read_run(written(tmp_path, bytes(hurt), "run.trec.gz"))
    with pytest.raises(InputError, match="broken gzip"):
        read_run(written(tmp_path, text, "run.trec.gz"))


def test_lines_longer_than_a_block(tmp_path):
    long = "x" * (5 << 20)
    path = written(tmp_path, f"q Q0 {long} 1 3.5 t\nq Q0 short 2 1.5 t\n{long} Q0 d 1 1 t\n")
    run = read_run(path)
    assert run.to_dict() == {"q": {long: 3.5, "short": 1.5}, long: {"d": 1.0}}
    run.write(tmp_path / "again.trec")
    assert read_run(tmp_path / "again.trec") == run


# ---- the fast reader reads what the slow one reads

PIECES = ["q", "Q0", "d", "1", "2.5", "-0", "nan", "#", "#q", " ", " ", " ", "  ", "\t", "\n", "\n", "\r\n", "\r", '"', "\v", "\x00", "\x1c", "é", "\u00a0", "\ufeff", "1e5"]  # fmt: skip  # noqa: E501


def outcome(read, path):
    try:
        queries, documents, scores = read(path)
    except (pa.ArrowInvalid, InputError):
        return None
    return queries.to_pylist(), documents.to_pylist(), np.asarray(scores, float).view(np.int64).tolist()


@settings(max_examples=250, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["d", '"d', "é\u00a0", "N/A"]), NUMBERS)),
    noise=st.lists(st.tuples(st.integers(0, 200), st.sampled_from(PIECES)), max_size=3),
    delimiter=st.sampled_from([" ", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_fast_and_slow_readers_agree(tmp_path_factory, rows, noise, delimiter, end):
    text = "".join(delimiter.join([q, "Q0", f"{d}{i}", "1", repr(s), "t"]) + end for i, (q, d, s) in enumerate(rows))
    for place, piece in noise:
        text = text[:place] + piece + text[place:]
    path = tmp_path_factory.mktemp("differ") / "run.trec"
    path.write_text(text, newline="")
    fast = outcome(_read_trec_fast, path)
    if fast is not None:
        assert fast == outcome(_read_trec_slow, path)


def test_regular_files_take_the_fast_road(tmp_path):
    rng = np.random.default_rng(2)
    for end in ("\n", "\r\n"):
        lines = [f"q{i // 50}\tQ0\td{i}\t1\t{score}\tt" for i, score in enumerate(rng.normal(size=60_000))]
        path = written(tmp_path, end.join(lines) + end)  # several blocks
        assert outcome(_read_trec_fast, path) == outcome(_read_trec_slow, path)
        assert outcome(_read_trec_fast, path) is not None


@pytest.mark.parametrize("piece", range(1, 9))
def test_irregular_places_are_found_across_pieces(tmp_path, monkeypatch, piece):
    monkeypatch.setattr("cribble.files._PIECE", piece)
    for text, regular in [
        ("a b\nc d\n", True),
        ("a b\r\nc d\r\n", True),
        ("a b\n\nc d", True),
        ("a  b\n", False),
        ("a b \n", False),
        ("a b\n c", False),
        (" a b\n", False),
        ("a b\rc d\n", False),
        ("a\tb\n", False),
        ("a b\x0bc\n", False),
        ("a b ", False),
    ]:
        with written(tmp_path, text).open("rb") as stream:
            reader = RegularText(stream, " ")
            try:
                while reader.read(5):
                    pass
                found = True
            except pa.ArrowInvalid:
                found = False
        assert found == regular, text


# ---- parquet


def test_parquet_keeps_everything(tmp_path):
    run = Run.from_dict(
        {"q3": {}, "q1": {"b": 1.0, "a": 2.0}, "q2": {}, "q0": {"x y": -0.0}},
        name="mine",
        score_kind="dot",
        provenance={"model": "m", "truncated": 3, "parts": [1, 2]},
    )
    run.write(tmp_path / "r.parquet")
    back = Run.read(tmp_path / "r.parquet")
    assert back == run
    assert list(back) == ["q3", "q1", "q2", "q0"]
    assert (back.name, back.score_kind, back.provenance) == (run.name, run.score_kind, run.provenance)
    assert Run.read(tmp_path / "r.parquet", name="other", score_kind="bm25").facts()["name"] == "other"
    empty = Run.from_dict({"q": {}})
    empty.write(tmp_path / "e.parquet")
    assert list(Run.read(tmp_path / "e.parquet")) == ["q"]
    Run.from_dict({}).write(tmp_path / "n.parquet")
    assert len(Run.read(tmp_path / "n.parquet")) == 0


def test_parquet_by_others(tmp_path):
    folder = tmp_path / "query=5"  # no partition: the file alone is read
    folder.mkdir()
    table = pa.table(
        {
            "score": pa.array([1, 3, 2], pa.float32()),
            "document": pa.array(["a", "b", "c"]).dictionary_encode(),
            "query": ["q1", "q2", "q1"],
            "more": [1, 2, 3],
        }
    )
    pq.write_table(table, folder / "r.parquet")
    run = Run.read(folder / "r.parquet")
    assert run.to_dict() == {"q1": {"c": 2.0, "a": 1.0}, "q2": {"b": 3.0}}
    assert run.name == "r"


def test_parquet_rows_that_someone_added_stay(tmp_path):
    path = tmp_path / "r.parquet"
    Run.from_dict({"q1": {"a": 1.0}, "q2": {}}).write(path)
    table = pq.read_table(path)
    more = pa.table({"query": ["q9"], "document": ["z"], "score": [1.0]}).cast(table.schema)
    pq.write_table(pa.concat_tables([table, more]), path)
    assert Run.read(path).to_dict() == {"q1": {"a": 1.0}, "q2": {}, "q9": {"z": 1.0}}


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"query": ["q"], "document": ["d"]}, "the column 'score' is missing, found query, document"),
        ({"query": ["q"], "document": [1], "score": [1.0]}, "document id: a column of type int64, expected strings"),
        ({"query": [1], "document": ["d"], "score": [1.0]}, "query id: a column of type int64, expected strings"),
        ({"query": ["q", None], "document": ["d", "e"], "score": [1.0, 1.0]}, "query id: row 2 of 2 is null"),
        ({"query": ["q", "q"], "document": ["d", None], "score": [1.0, 1.0]}, "document id: row 2 of 2 is null"),
        (
            {"query": ["q"], "document": ["d"], "score": pa.array([None], pa.float64())},
            "'q', document 'd' has the score nan",
        ),
        ({"query": ["q"], "document": ["d"], "score": ["high"]}, "high"),
    ],
)
def test_parquet_of_wrong_columns(tmp_path, columns, match):
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    with pytest.raises(InputError, match=rf"r\.parquet: .*{match}"):
        Run.read(tmp_path / "r.parquet")


def test_damaged_parquet(tmp_path):
    path = tmp_path / "r.parquet"
    run = Run.from_dict(
        {"q": {f"d{i}": float(score) for i, score in enumerate(np.random.default_rng(3).normal(size=2000))}}
    )
    run.write(path)
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError, match=r"r\.parquet: no parquet file, or a broken one"):
            Run.read(written(tmp_path, whole[:length], "r.parquet"))
    for place in np.random.default_rng(4).integers(len(whole) // 4, len(whole) // 2, 20).tolist():
        hurt = bytearray(whole)
        hurt[place] ^= 0x10
        with pytest.raises(InputError, match=r"r\.parquet"):
            Run.read(written(tmp_path, bytes(hurt), "r.parquet"))


# ---- whole or not at all

FULL_DISK = """
import resource, signal, sys
import numpy as np
from cribble.records import Run
run = Run(["q"], np.array([0, 50_000]), [f"document{i}" for i in range(50_000)], np.random.default_rng(0).normal(size=50_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    run.write(sys.argv[1])
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.parametrize("ending", ["trec", "trec.gz", "parquet"])
def test_a_full_disk_leaves_the_old_file(tmp_path, ending):
    path = tmp_path / f"r.{ending}"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert "OSError 27" in done.stdout, done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_tag_behind_a_tab_may_hold_blanks(tmp_path):
    """trec_eval's own test data has such rows; six fields between tabs are no doubt about what is what."""
    path = tmp_path / "run.trec"
    path.write_text("q1\tQ0\ta\t1\t  2.5\tmy tag\nq1\tQ0\tb\t2\t1.5\tplain\n")
    assert Run.read(path).to_dict() == {"q1": {"a": 2.5, "b": 1.5}}
    path.write_text("q1\tQ0\ta b\t1\t2.5\tmy tag\n")
    with pytest.raises(InputError, match="8 fields, expected 6"):
        Run.read(path)
