"""A changed index is as it was or as it will be: kill -9 at any moment, two writers, readers beside a writer."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cribble.errors import SetupError
from cribble.index.changes import compact_index, delete_documents
from cribble.index.flat import FlatIndex
from cribble.index.opening import verify_index
from cribble.tests.index import builds, changing
from cribble.tests.index.builds import build_flat, make_documents

SCRIPT = Path(changing.__file__)


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **options)


def next_line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.mark.parametrize("operation", sorted(changing.OPERATIONS))
def test_death_at_every_third_step(tmp_path, operation):
    """Only the old or the new index, the new one for good once it is there; a repeated change ends the same, and clean."""
    process = start("steps", tmp_path, operation, 3)
    rows = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    assert rows[-1]["survived"]
    assert len(rows) > 3
    assert [row for row in rows if not row["equal"] or not row["clean"]] == []
    if operation != "compact":  # which changes no document
        states = [row["state"] for row in rows]
        assert states == sorted(states, key=["old", "new"].index)
        assert {"old", "new"} == set(states)


def test_sigkill_at_random_moments_of_an_addition(tmp_path):
    """Old or new, and the addition goes on with its finished shards."""
    documents = make_documents(40)
    build_flat(tmp_path / "base", documents)
    reference = Path(shutil.copytree(tmp_path / "base", tmp_path / "reference"))
    process = start("add", reference, 160)
    assert next_line(process) == "ready"
    seconds = float(next_line(process).removeprefix("done "))
    assert process.wait() == 0
    wanted = verify_index(reference)
    new = [d._replace(id=f"new {d.id}") for d in make_documents(160)]
    rng = random.Random(7)
    resumed = 0
    for i in range(6):
        path = Path(shutil.copytree(tmp_path / "base", tmp_path / f"killed{i}"))
        process = start("add", path, 160)
        assert next_line(process) == "ready"
        while i % 2 and process.poll() is None and not (path / "shards-00001" / "00002").exists():
            time.sleep(0.001)  # every second time some shards are finished
        time.sleep(0 if i % 2 else rng.random() * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = list(FlatIndex.open(path, verify=True).texts)
        if found == documents:
            done = len(list(path.glob("shards-00001/[0-9]*[0-9]")))
            encoded: list[int] = []
            changing.add(path, new, encode=lambda batch, n=encoded: n.append(len(batch)) or builds.encode(batch))
            assert sum(encoded) == 160 - 16 * done
            resumed += done > 0
        else:
            assert found == documents + new
        assert verify_index(path).files == wanted.files
    assert resumed >= 1  # the moments did lie inside of the addition


def test_deleting_between_a_killed_addition_and_its_repetition_is_no_obstacle(tmp_path):
    path, new = tmp_path / "i", [d._replace(id=f"new {d.id}") for d in make_documents(60)]
    build_flat(path, make_documents(40))

    def failing(batch):
        if batch[0].id == "new d32":
            raise KeyboardInterrupt
        return builds.encode(batch)

    with pytest.raises(KeyboardInterrupt):
        changing.add(path, new, encode=failing)
    delete_documents(path, ["d1", "d2"])
    with pytest.raises(SetupError, match=r"an interrupted addition of more is in .*shards-00001: repeat it"):
        changing.add(path, new, corpus="other")
    with pytest.raises(SetupError, match="an interrupted addition of more"):
        compact_index(path)
    encoded: list[str] = []
    changing.add(path, new, encode=lambda batch: encoded.extend(d.id for d in batch) or builds.encode(batch))
    assert encoded == [d.id for d in new[32:]]
    assert list(FlatIndex.open(path).texts) == [d for d in make_documents(40) if d.id not in ("d1", "d2")] + new


def test_a_second_writer_is_refused_at_once(tmp_path):
    path, go = tmp_path / "i", tmp_path / "go"
    build_flat(path, make_documents(40))
    first = start("add", path, 40, go)
    assert next_line(first) == "ready"
    while not (path / "lock").exists():
        time.sleep(0.01)
    for change in (
        lambda: changing.add(path, changing.MORE),
        lambda: delete_documents(path, ["d1"]),
        lambda: compact_index(path),
        lambda: build_flat(path, make_documents(3), overwrite=True),
    ):
        with pytest.raises(SetupError, match=f"process {first.pid} is building this index, or changing it"):
            change()
    go.touch()
    assert next_line(first).startswith("done")
    assert first.wait() == 0
    assert len(FlatIndex.open(path, verify=True)) == 80


def test_readers_beside_a_writer_see_the_old_or_the_new_index(tmp_path):
    path = tmp_path / "i"
    build_flat(path, changing.BASE, shard_documents=4)
    readers = [start("read", path, stdin=subprocess.PIPE) for _ in range(2)]
    assert [next_line(reader) for reader in readers] == ["reading"] * 2
    writer = start("churn", path, tmp_path / "enough")
    assert next_line(writer) == "ready"
    told = [next_line(reader) for reader in readers]
    (tmp_path / "enough").touch()
    assert told == ["both"] * 2
    assert writer.communicate()[0].splitlines()[-1].startswith("done")
    assert writer.returncode == 0
    seen = [json.loads(reader.communicate("stop\n")[0]) for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0]
    assert all(sum(look.values()) > 3 for look in seen), seen
    assert all(look[state] > 0 for look in seen for state in ("old", "new")), seen
    assert verify_index(path).documents == 12
