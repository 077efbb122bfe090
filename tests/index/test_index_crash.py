"""An index is whole or absent: kill -9 at any moment, a full disk, two writers."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cribble.errors import SetupError
from cribble.index.flat import FlatIndex
from cribble.tests.index import builds
from cribble.tests.index.builds import build_flat, contents, encode_texts, make_documents, state

SCRIPT = Path(builds.__file__)
COUNT, SHARD = 176, 16


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **options)


def next_line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The files of a build that nothing disturbed, and its seconds in a process of its own."""
    path = tmp_path_factory.mktemp("reference") / "index"
    process = start("build", path, COUNT, SHARD)
    assert next_line(process) == "ready"
    seconds = float(next_line(process).removeprefix("done "))
    assert process.wait() == 0
    return contents(path), seconds


def test_sigkill_at_twenty_random_moments(tmp_path, reference):
    files, seconds = reference
    rng = random.Random(20)
    documents = make_documents(COUNT)
    states = []
    for i in range(20):
        path = tmp_path / f"killed{i}"
        process = start("build", path, COUNT, SHARD)
        assert next_line(process) == "ready"
        time.sleep(rng.random() * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        states.append(state(path) if path.exists() else "absent")
        if states[-1] in ("unfinished", "absent") or "no index here" in states[-1]:
            done = len(list(path.glob("shards/[0-9]*[0-9]"))) if path.exists() else 0
            encoded: list[int] = []
            build_flat(path, documents, lambda batch, n=encoded: n.append(len(batch)) or builds.encode(batch))
            assert sum(encoded) <= COUNT - done * SHARD  # finished shards were not encoded again
        else:
            assert states[-1] == "whole", states[-1]
        assert contents(path) == files
    assert states.count("unfinished") >= 10, states  # the moments did lie inside of the build
    found = FlatIndex.open(path).search(encode_texts([documents[77].full_text]), 1)
    assert found[0].ids.tolist() == ["d77"]


@pytest.mark.parametrize(("kind", "first"), [("flat", 1), ("ivf-pq", 29), ("itq", 40)])
def test_death_at_every_single_step(tmp_path, kind, first):
    """Dies at the n-th sync, rename or folder for every n from `first`: only whole or absent, and always the same index
    in the end. Approximate kinds make their shards as flat does, so they die where the FAISS file is made.
    """
    process = start("steps", tmp_path, kind, first, env=os.environ | {"OMP_NUM_THREADS": "1"})
    rows = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    assert rows[-1]["survived"]
    assert rows[-1]["step"] > 30
    assert all(row["equal"] for row in rows), [row for row in rows if not row["equal"]]
    whole = [row["state"] == "whole" for row in rows]
    assert whole == sorted(whole)  # once whole, it stays so at later steps
    assert not whole[0]
    for row in rows:
        assert row["state"] in ("whole", "unfinished") or "no index here" in row["state"] or "no such" in row["state"]


def test_file_size_limit_is_explained_and_the_build_resumes(tmp_path):
    path = tmp_path / "index"
    limit = 4000  # bytes; a shard of 64 vectors takes 4,224

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start("build", path, 100, 64, preexec_fn=lower)
    lines = process.communicate()[0].splitlines()
    assert process.returncode == SetupError.exit_code
    assert str(path) in lines[1]
    assert "make room and run the same build again" in lines[1]
    assert "unfinished" in state(path)
    assert not list(path.glob("shards/*.tmp"))
    build_flat(path, make_documents(100), shard_documents=64)
    assert state(path) == "whole"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, and a function that makes it bigger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mount.stderr.strip()}")
    try:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_explained_and_the_build_resumes(tmp_path, small_disk):
    disk, enlarge = small_disk
    documents = [d._replace(text=d.text * 40) for d in make_documents(600)]
    with pytest.raises(SetupError, match="disk is full") as caught:
        build_flat(disk / "index", documents)
    assert str(disk / "index") in str(caught.value)
    assert state(disk / "index") == "unfinished"
    finished = len(list(disk.glob("index/shards/*")))
    assert finished > 1
    enlarge()
    build_flat(disk / "index", documents)
    build_flat(tmp_path / "reference", documents)
    assert contents(disk / "index") == contents(tmp_path / "reference")


def test_full_disk_before_the_first_byte_leaves_nothing(small_disk):
    disk, _ = small_disk
    subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}"], capture_output=True)  # ends when the disk is full
    with pytest.raises(SetupError, match="disk is full"):
        build_flat(disk / "index", make_documents(20))
    assert not (disk / "index").exists() or state(disk / "index") != "whole"


def test_a_second_writer_is_refused_at_once(tmp_path):
    path, go = tmp_path / "index", tmp_path / "go"
    first = start("build", path, 100, 16, go)
    assert next_line(first) == "ready"
    while not (path / "plan.json").exists():
        time.sleep(0.01)
    second = start("build", path, 100, 16)
    lines = second.communicate(timeout=60)[0].splitlines()
    assert second.returncode == SetupError.exit_code
    assert f"process {first.pid} is building this index" in lines[1]
    assert str(path) in lines[1]
    go.touch()
    assert next_line(first).startswith("done")
    assert first.wait() == 0
    assert state(path) == "whole"
    assert not (path / "lock").exists()


def test_two_writers_racing_from_the_start_make_one_whole_index(tmp_path):
    for i in range(3):
        path = tmp_path / f"index{i}"
        both = [start("build", path, 100, 16) for _ in range(2)]
        codes = sorted(process.communicate() and process.returncode for process in both)
        assert codes == [0, SetupError.exit_code], codes  # the loser met the lock, or the whole index
        assert state(path) == "whole"


def test_the_lock_file_of_a_dead_process_is_no_obstacle(tmp_path):
    path = tmp_path / "index"
    path.mkdir()
    (path / "lock").write_text("999999\n")
    build_flat(path, make_documents(20))
    assert state(path) == "whole"


def test_interrupt_leaves_a_build_that_resumes(tmp_path):
    path, documents = tmp_path / "index", make_documents(100)

    def interrupted(batch):
        if batch[0].id == "d48":
            raise KeyboardInterrupt
        return builds.encode(batch)

    with pytest.raises(KeyboardInterrupt):
        build_flat(path, documents, interrupted)
    assert state(path) == "unfinished"
    assert sorted(os.listdir(path / "shards")) == ["00000", "00001", "00002"]
    build_flat(path, documents)
    build_flat(tmp_path / "reference", documents)
    assert contents(path) == contents(tmp_path / "reference")
