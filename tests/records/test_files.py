"""Files written whole or not at all, and lines read with their numbers."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cribble.errors import InputError
from cribble.files import file_kind, numbered_lines, open_existing, run_name, write_whole


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("a.trec", "trec", "a"),
        ("folder/a.b.txt", "trec", "a.b"),
        ("a.gz", "trec", "a"),
        ("a", "trec", "a"),
        ("a.jsonl.gz", "jsonl", "a"),
        ("a.parquet", "parquet", "a"),
        ("a.parquet.trec", "trec", "a.parquet"),
    ],
)
def test_kind_and_name(name, kind, stem):
    assert file_kind(name) == file_kind(Path(name)) == kind
    assert run_name(name) == stem


@pytest.mark.parametrize("name", ["new/folder/f.txt", "f.txt.gz"])
def test_written_files_are_whole(tmp_path, name):
    path = tmp_path / name
    with write_whole(path) as stream:
        stream.write(b"one\n")
        assert not path.exists()
        stream.write(b"two\n")
    with open_existing(path) as stream:
        assert stream.read() == b"one\ntwo\n"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["f.txt", "f.txt.gz"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_the_old_file(tmp_path, name, error):
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail():
        with write_whole(path) as stream:
            stream.write(b"new" * 100_000)
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_equal_content_packs_to_equal_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        with write_whole(tmp_path / name) as stream:
            stream.write(b"same" * 1000)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_numbered_lines(tmp_path, pack):
    path = tmp_path / ("f.gz" if pack is gzip.compress else "f")
    path.write_bytes(pack("\ufeffone\r\n\n \t\ntw\u2028o\x0c\n\ufeffthree".encode()))
    assert list(numbered_lines(path)) == [(1, "one"), (4, "tw\u2028o\x0c"), (5, "\ufeffthree")]


def test_what_can_not_be_read(tmp_path):
    (tmp_path / "bad").write_bytes(b"one\ntw\xe9o\n")
    with pytest.raises(InputError, match=r"bad:2: not UTF-8 at byte 2: convert"):
        list(numbered_lines(tmp_path / "bad"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"one\n" * 1000)[:-3])
    with pytest.raises(InputError, match=r"cut\.gz: broken gzip data"):
        list(numbered_lines(tmp_path / "cut.gz"))
    with pytest.raises(InputError, match="none does not exist"):
        open_existing(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder, expected a file"):
        open_existing(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "f"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(InputError, match=r"f may not be read .*permissions"):
        open_existing(path)


def test_the_interpreter_waits_at_its_exit_for_lent_streams():
    # Arrow's thread that let go of the file of an empty run while the interpreter shut down aborted 6 in 100 processes.
    code = """
import io, threading, time
from cribble.files import lend
def keep(stream):
    time.sleep(0.3)
    del stream
    print("let go", flush=True)
threading.Thread(target=keep, args=[lend(io.BufferedReader(io.BytesIO()))], daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "let go\n"
