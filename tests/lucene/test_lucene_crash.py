"""A Lucene index is whole or absent: kill -9 at any moment, a full disk."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cribble.errors import CribbleError, SetupError
from cribble.index.lucene import LuceneIndex
from cribble.tests.lucene import lucene_builds
from cribble.tests.lucene.lucene_builds import build, make_documents, rankings

COUNT, SHARD = 160, 20


def start(path: Path, count: int = COUNT, shard: int = SHARD, **options) -> subprocess.Popen:
    command = [sys.executable, lucene_builds.__file__, str(path), str(count), str(shard)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **options)


def state(path: Path) -> str:
    """whole, or the reason why the folder does not open."""
    try:
        LuceneIndex.open(path, verify=True).close()
    except CribbleError as error:
        return "unfinished" if "run the same build command again" in str(error) else str(error)
    return "whole"


@pytest.mark.slow
def test_sigkill_at_twenty_random_moments(tmp_path):
    reference = start(tmp_path / "reference")
    assert reference.stdout.readline() == "ready\n"
    seconds = float(reference.stdout.readline().removeprefix("done "))
    assert reference.wait() == 0
    expected = rankings(LuceneIndex.open(tmp_path / "reference"), k=COUNT)
    documents = make_documents(COUNT)
    rng = random.Random(20)
    states = []
    for i in range(20):
        path = tmp_path / f"killed{i}"
        process = start(path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random() * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        states.append(state(path))
        stood = {p.name: p.stat().st_ino for p in path.glob("shards/[0-9]*[0-9]")} if path.exists() else {}
        if states[-1] == "whole":
            index = LuceneIndex.open(path)
        else:
            assert states[-1] == "unfinished" or "no index here" in states[-1] or "no such" in states[-1]
            index = build(path, documents, shard_documents=SHARD)
        assert {name: (path / "shards" / name).stat().st_ino for name in stood} == stood  # not built again
        assert rankings(index, k=COUNT) == expected
        assert not list(path.glob("shards/*.tmp"))
        index.close()
    assert states.count("unfinished") >= 10, states  # the moments did lie inside of the build


def test_file_size_limit_is_explained_and_the_build_resumes(tmp_path):
    path, limit = tmp_path / "index", 30_000

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(path, 2000, 1500, preexec_fn=lower)
    lines = process.communicate()[0].splitlines()
    assert process.returncode == SetupError.exit_code, lines
    assert str(path) in lines[-1]
    assert "make room and run the same build again" in lines[-1]
    assert state(path) == "unfinished"
    assert not list(path.glob("shards/*.tmp"))
    index = build(path, make_documents(2000), shard_documents=1500)
    assert rankings(index) == rankings(build(tmp_path / "reference", make_documents(2000)))


def test_full_disk_is_explained_and_the_build_resumes(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        documents = make_documents(4000)
        with pytest.raises(SetupError, match="disk is full"):
            build(disk / "index", documents, shard_documents=500)
        assert state(disk / "index") == "unfinished"
        assert list(disk.glob("index/shards/*"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        index = build(disk / "index", documents, shard_documents=500)
        assert rankings(index) == rankings(build(tmp_path / "reference", documents))
        index.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
