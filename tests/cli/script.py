"""The console script itself in a process of its own, over small collections that the tests write."""

import gzip
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

DOCUMENTS = {
    "fox": ("Foxes", "The quick brown fox jumps over the lazy dog and hunts at night."),
    "dog": ("Dogs", "A dog sleeps by the fire; dogs guard the house and bark at strangers."),
    "cat": ("Cats", "Cats sleep most of the day and hunt mice after dark."),
    "mouse": ("", "A mouse eats grain and hides from cats and owls."),
    "owl": ("Owls", "Owls fly without a sound and see mice in the dark."),
    "bread": ("Bread", "Bread is baked from flour, water, salt and yeast in a hot oven."),
    "cheese": ("Cheese", "Cheese is made from milk with rennet, and ripens for months."),
    "wine": ("Wine", "Wine is fermented grape juice that ages in barrels."),
    "piano": ("Piano", "The piano has eighty-eight keys and hammers that strike its strings."),
    "violin": ("Violin", "A violin has four strings and is played with a bow."),
    "comet": ("Comets", "A comet is a ball of ice that grows a tail near the sun."),
    "volcano": ("Volcanoes", "A volcano throws out ash and molten rock called lava."),
}
QUERIES = {
    "q1": "which animal hunts mice at night",
    "q2": "how is bread baked",
    "q3": "instrument with strings",
    "q4": "molten rock",
}
JUDGED = {
    "q1": {"owl": 2, "cat": 2, "fox": 1},
    "q2": {"bread": 2},
    "q3": {"violin": 2, "piano": 1},
    "q4": {"volcano": 2, "comet": 0},
}


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def collection_files():
    """Name → bytes of a whole BEIR folder."""
    documents = [{"_id": i, "title": title, "text": text} for i, (title, text) in DOCUMENTS.items()]
    rows = [f"{q}\t{d}\t{label}\n" for q, judged in JUDGED.items() for d, label in judged.items()]
    return {
        "corpus.jsonl": json_lines(documents),
        "queries.jsonl": json_lines({"_id": i, "text": text} for i, text in QUERIES.items()),
        "qrels/test.tsv": ("query-id\tcorpus-id\tscore\n" + "".join(rows)).encode(),
    }


def write_files(folder, files):
    """Write `files` (name → bytes, text, or None for a file to remove); a name that ends in .gz is packed."""
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
            continue
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") and data[:2] != b"\x1f\x8b" else data)


@dataclass
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def answer(self):
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        answer = json.loads(self.out)
        assert list(answer) == ["command", "results", "warnings"]
        return answer

    @property
    def results(self):
        return self.answer["results"]

    @property
    def error(self):
        """The error line, after the checks that hold for every error: one line, the last one, no trace."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.err
        assert self.err.endswith("\n")
        assert self.out == ""
        return lines[-1].removeprefix("error: ")


class Cribble:
    """Runs the console script that is installed beside this Python."""

    def __init__(self, home):
        self.path = shutil.which("cribble", path=str(Path(sys.executable).parent))
        assert self.path, "the console script is not installed beside this Python: pip install -e ."
        self.home = home
        self._prepared = None
        self._turn = threading.Lock()

    def environment(self, changes=None):
        """Nothing of the user's caches; a small and quickly started Java; no hub (a port where nothing listens)."""
        own = {
            "HF_HOME": str(self.home / "hub"),
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_OFFLINE": "",
            "CRIBBLE_JAVA_OPTIONS": "-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        return os.environ | own | (changes or {})

    def start(self, *arguments, cwd, env=None, **options):
        """The process, with pipes for its output."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([self.path, *map(str, arguments)], cwd=cwd, env=self.environment(env), **pipes)

    def __call__(self, *arguments, cwd, env=None, timeout=240):
        """The command's end. In an environment of its own it is the script; else a fork of a process (`prepared.py`) that
        has imported what the script would, which saves up to five seconds a command."""
        if not env:
            return self.forked(*arguments, cwd=cwd, timeout=timeout)
        process = self.start(*arguments, cwd=cwd, env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return Done(process.returncode, out.decode(), err.decode())

    def forked(self, *arguments, cwd, timeout):
        with self._turn, tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            prepared = self.prepared()
            command = {"arguments": [*map(str, arguments)], "folder": str(cwd), "out": out.name, "err": err.name}
            prepared.stdin.write(json.dumps(command).encode() + b"\n")
            prepared.stdin.flush()
            if not select.select([prepared.stdout], [], [], timeout)[0]:
                self.close()
                raise TimeoutError(f"{arguments}: no end within {timeout} s\n{err.read().decode()}")
            return Done(int(prepared.stdout.readline()), out.read().decode(), err.read().decode())

    def prepared(self):
        """The process that forks, started at the first command."""
        if self._prepared is None:
            self._prepared = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("prepared.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self.environment(),
                cwd=self.home,
                process_group=0,
            )
            assert self._prepared.stdout.readline() == b"ready\n"
        return self._prepared

    def close(self):
        """End the process that forks, and a command that it may be running."""
        if self._prepared is not None:
            os.killpg(self._prepared.pid, signal.SIGKILL)
            self._prepared.communicate()
            self._prepared = None
