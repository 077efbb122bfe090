"""A cheap deterministic encoder and builds with it; run as a script it is the process that the crash tests kill.

python builds.py build PATH DOCUMENTS SHARD [GO]    prints `ready`, builds (each shard waits for the file GO), prints `done`
python builds.py steps PATH KIND FIRST              dies at every durable step of a build from FIRST on, and resumes
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from cribble.errors import CribbleError
from cribble.index.flat import FlatIndex
from cribble.index.opening import find_kind, open_index
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

DIM = 16
SPEC = EncoderSpec("hash", revision="r1", query_prompt="q: ", pooling="mean", dim=DIM, similarity="cosine")
WORDS = ["río", "sea", "stone", "tree", "木", "fire", "light", "wind", "rain", "snow", "sand", "moss", "lake", "hill"]


def encode_texts(texts: list[str]) -> Dense:
    """The sum of a fixed random vector per word."""
    rows = np.zeros((len(texts), DIM), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.split():
            row += _word_vector(word)
    return Dense(rows)


@cache
def _word_vector(word: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(word.encode()).digest(), np.int8)[:DIM].astype(np.float32) / 128


def encode(documents: list[Document]) -> Dense:
    return encode_texts([document.full_text for document in documents])


def make_documents(count: int) -> list[Document]:
    rng = np.random.default_rng(count)
    return [
        Document(f"d{i}", " ".join(rng.choice(WORDS, 12)) + f" {i}", f"title {i}" if i % 3 else "")
        for i in range(count)
    ]


def build_flat(path, documents, encode=encode, *, spec=SPEC, corpus="made", shard_documents=16, **options):
    return FlatIndex.build(
        path, documents, encode, spec=spec, corpus=corpus, shard_documents=shard_documents, **options
    )


def build_kind(kind, path, documents, encode=encode, *, spec=SPEC, corpus="made", shard_documents=16, **options):
    return find_kind(kind).build(
        path, documents, encode, spec=spec, corpus=corpus, shard_documents=shard_documents, **options
    )


def contents(path: Path) -> dict[str, str]:
    """SHA-256 of every file of an index, the manifest without the moment of its making; not a dead writer's lock, nor what it
    learnt before the shards."""
    found = {}
    left = ("lock", "training")
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file() and p.relative_to(path).parts[0] not in left):
        data = file.read_bytes()
        if file.name == "manifest.json":
            manifest = json.loads(data)
            del manifest["created"], manifest["sha256"]
            data = json.dumps(manifest).encode()
        found[file.relative_to(path).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def state(path: Path) -> str:
    """whole, or the reason why the folder does not open."""
    try:
        open_index(path, verify=True)
    except CribbleError as error:
        return "unfinished" if "run the same build command again" in str(error) else str(error)
    return "whole"


def die_at_steps(root: Path, build: Callable[..., object], first: int, stride: int = 1) -> None:
    """Per step one fork: `build(path, documents, shard_documents=4)` exits at its n-th sync, rename or creation of a
    folder without any clean-up, and is done again. Says a line of JSON for each."""
    documents = make_documents(10)
    build(root / "reference", documents, shard_documents=4)
    reference = contents(root / "reference")
    for step in range(first, 1000, stride):
        path = root / f"killed{step}"
        child = os.fork()
        if child == 0:
            arm(step, ("fsync", "rename", "replace", "mkdir"))
            build(path, documents, shard_documents=4)
            os._exit(0)
        survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = state(path)
        if found != "whole":
            build(path, documents, shard_documents=4)
        equal = contents(path) == reference
        say(json.dumps({"step": step, "state": found, "equal": equal, "survived": survived}))
        if survived:
            return


def deaths(script: str | Path, root: Path, *arguments: object, least: int = 2) -> list[dict]:
    """What `die_at_steps` said in `script`, run as `steps ROOT ARGUMENTS`: more than `least` deaths, the last build lived, and
    every build that was done again has the bytes of one that nothing disturbed."""
    command = [sys.executable, str(script), "steps", str(root), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
    rows: list[dict] = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, process.stderr
    assert rows[-1]["survived"]
    assert len(rows) > least
    assert [row for row in rows if not row["equal"]] == []
    return rows


def arm(step: int, names: tuple[str, ...]) -> None:
    """The process exits at its n-th call of these functions of `os`, before the call is made."""
    left = [step]

    def counted(call):
        def run(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os._exit(9)
            return call(*args, **kwargs)

        return run

    for name in names:
        setattr(os, name, counted(getattr(os, name)))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    command, path = sys.argv[1], Path(sys.argv[2])
    if command == "steps":
        die_at_steps(path, partial(build_kind, sys.argv[3]), int(sys.argv[4]))
        return
    documents, shard = make_documents(int(sys.argv[3])), int(sys.argv[4])
    go = Path(sys.argv[5]) if len(sys.argv) > 5 else None

    def patient(batch: list[Document]) -> Dense:
        while go is not None and not go.exists():
            time.sleep(0.01)
        return encode(batch)

    say("ready")
    start = time.perf_counter()
    try:
        build_flat(path, documents, patient, shard_documents=shard)
    except CribbleError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    say(f"done {time.perf_counter() - start}")


if __name__ == "__main__":
    main()
