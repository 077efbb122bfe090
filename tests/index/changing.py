"""Changes of a small index; run as a script it is the process that the crash tests kill.

python changing.py steps FOLDER OPERATION N   dies at every n-th durable step of the change; a line of JSON a step
python changing.py add PATH COUNT [GO]        prints `ready`, adds COUNT documents (each batch waits for GO), prints `done`
python changing.py churn PATH ROUNDS          prints `ready`, adds, deletes and compacts, prints `done`
python changing.py read PATH                  opens and searches until told to stop by a line; a line of JSON at the end
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from cribble.errors import CribbleError
from cribble.index.changes import Change, add_documents, compact_index, delete_documents, tidy
from cribble.index.flat import FlatIndex
from cribble.index.opening import verify_index
from cribble.records import DescribedDocument, Document
from cribble.tests.index.builds import SPEC, arm, build_flat, encode, encode_texts, make_documents, say

BASE = make_documents(12)
MORE = [DescribedDocument.of(d._replace(id=f"new {d.id}"), {"year": i}) for i, d in enumerate(make_documents(6))]
GONE = ["d0", "d5", "d11"]


def add(path, documents, *, corpus="more", encode=encode, spec=SPEC, **options) -> Change:
    return add_documents(path, lambda: documents, encode, spec=spec, corpus=corpus, **options)


def replace(path) -> Change:
    return add(path, [BASE[2]._replace(text="sea of sand"), *MORE], replacing=True)


#: Name → the change, and the documents afterwards. All begin with `BASE` less `GONE`.
LEFT = [d for d in BASE if d.id not in GONE]
OPERATIONS = {
    "add": (lambda path: add(path, MORE), LEFT + MORE),
    "replace": (replace, [*(d for d in LEFT if d.id != "d2"), BASE[2]._replace(text="sea of sand"), *MORE]),
    "delete": (lambda path: delete_documents(path, ["d1", "d7"]), [d for d in LEFT if d.id not in ("d1", "d7")]),
    "compact": (compact_index, LEFT),
}


def build_base(path: Path) -> None:
    build_flat(path, BASE, shard_documents=4)
    delete_documents(path, GONE)


def tree(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.name != "lock")


def die_at_every_step(folder: Path, operation: str, stride: int) -> None:
    """Per step one fork: it exits at its n-th durable call without any clean-up; then the change is repeated."""
    os.fsync = lambda handle: None  # a process dies, not the machine; counted all the same, and much faster
    change, documents = OPERATIONS[operation]
    build_base(folder / "base")
    done = Path(shutil.copytree(folder / "base", folder / "done"))
    change(done)
    tidy(done)
    wanted = verify_index(done)
    for step in range(1, 1000, stride):
        path = Path(shutil.copytree(folder / "base", folder / "killed"))
        child = os.fork()
        if child == 0:
            arm(step, ("fsync", "rename", "replace", "mkdir", "link", "unlink", "rmdir"))
            change(path)
            os._exit(0)
        survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        verify_index(path)
        found = list(FlatIndex.open(path).texts)
        state = "new" if found == documents else "old" if found == LEFT else "neither"
        if found == LEFT and operation != "compact":
            change(path)
        elif operation == "compact":
            compact_index(path)
        tidy(path)
        again = verify_index(path)
        equal = (again.fingerprint, again.counts, again.shards) == (wanted.fingerprint, wanted.counts, wanted.shards)
        clean = tree(path) == tree(done)
        shutil.rmtree(path)
        say(json.dumps({"step": step, "state": state, "equal": equal, "clean": clean, "survived": survived}))
        if survived:
            return


def churn(path: Path, enough: Path) -> None:
    """Until the file `enough` is there, adds all of `MORE`, deletes them and compacts: an index has `BASE` and either all
    of `MORE` or none."""
    while not enough.exists():
        add(path, MORE)
        time.sleep(0.05)  # so that a reader can come upon it
        delete_documents(path, [d.id for d in MORE])
        compact_index(path)


def read(path: Path) -> None:
    """Open and search until a line comes; every look must be one of the two states, and stay it after changes. Says so
    when it has seen both states and looked four times."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    query = encode_texts(["sea stone tree"])
    states = {"old": {d.id for d in BASE}, "new": {d.id for d in BASE + MORE}}
    seen, told = dict.fromkeys(states, 0), False
    say("reading")
    while not stop.is_set():
        index = FlatIndex.open(path, verify=True)
        first = index.search(query, 100)[0].ids.tolist()
        time.sleep(0.02)
        second = index.search(query, 100)[0].ids.tolist()
        texts = [d.id for d in index.texts]
        state = next((name for name, ids in states.items() if ids == set(first)), "mixed")
        if state == "mixed" or first != second or set(texts) != set(first):
            say(json.dumps({"mixed": [first, second, texts]}))
            os._exit(1)
        seen[state] += 1
        if not told and min(seen.values()) and sum(seen.values()) > 3:
            told = True
            say("both")
    say(json.dumps(seen))


def main() -> None:
    command, path = sys.argv[1], Path(sys.argv[2])
    if command == "steps":
        die_at_every_step(path, sys.argv[3], int(sys.argv[4]))
        return
    if command == "read":
        read(path)
        return
    say("ready")
    start = time.perf_counter()
    try:
        if command == "churn":
            churn(path, Path(sys.argv[3]))
        else:
            go = Path(sys.argv[4]) if len(sys.argv) > 4 else None

            def patient(batch: list[Document]):
                while go is not None and not go.exists():
                    time.sleep(0.01)
                return encode(batch)

            documents = [d._replace(id=f"new {d.id}") for d in make_documents(int(sys.argv[3]))]
            add(path, documents, encode=patient)
    except CribbleError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    say(f"done {time.perf_counter() - start}")


if __name__ == "__main__":
    main()
