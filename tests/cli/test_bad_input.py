"""Bad input through the console script: one line that names file and line, or option, and the remedy, and the exit code.

Where a user can go on, the right result comes, and what was left out is counted in `warnings`. Two rows run at a time.
"""

import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from cribble.tests.cli.bad_rows import FINE, QRELS, ROWS, RUN, Fine, Row
from cribble.tests.cli.script import collection_files, write_files

#: `sitecustomize` of the rows about missing packages: imports of the names in BLOCKED fail as if they were not installed.
BLOCKER = """
import importlib.machinery, os, sys

class Blocked(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["BLOCKED"].split(","):
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)

if os.environ.get("BLOCKED"):
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Blocked
"""


@pytest.fixture(scope="session")
def hurt_index(bm25_index, tmp_path_factory):
    """A copy of the index with one bit flipped in its largest file."""
    path = tmp_path_factory.mktemp("hurt") / "hurt"
    shutil.copytree(bm25_index, path)
    largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def rows_run(request, cribble, bm25_index, dense_index, hurt_index, tmp_path_factory):
    """Row id → its command's future; all rows that were selected run, two at a time."""
    indexes = {"bm25": bm25_index, "dense": dense_index}
    rows = [_parameters(item).get("row") for item in request.session.items]
    wanted = [row for row in rows if isinstance(row, Row | Fine)]  # other folders' tests have rows of their own kind

    def run(row):
        folder = tmp_path_factory.mktemp("row")
        write_files(folder, {f"b/{name}": content for name, content in collection_files().items()})
        write_files(folder, {"run.trec": RUN, "qrels.txt": QRELS} | row.files)
        env = dict(row.env)
        if "hurt" in row.command:
            (folder / "hurt").symlink_to(hurt_index)
        if "spaced" in row.command:
            cribble("index", "jsonl:docs.jsonl", "--retriever", "bm25", "--out", "spaced", cwd=folder)
        if env:
            write_files(folder, {"site/sitecustomize.py": BLOCKER})
            env["PYTHONPATH"] = str(folder / "site")
        return cribble(*shlex.split(row.command.format(**indexes)), cwd=folder, env=env), folder

    with ThreadPoolExecutor(2) as pool:
        yield {row.id: pool.submit(run, row) for row in wanted}
        pool.shutdown(cancel_futures=True)


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_one_line_names_the_fault_and_the_remedy(row, rows_run):
    done, folder = rows_run[row.id].result()
    assert re.search(row.match, done.error), done.error
    assert done.code == row.code, done.error
    left = [p.name for p in folder.iterdir() if p.name.startswith(("o.", "r."))]
    assert left == [], "an error leaves no half-written result"


@pytest.mark.parametrize("row", FINE, ids=lambda row: row.id)
def test_what_can_be_used_is_used_and_oddities_are_counted(row, rows_run):
    done, _ = rows_run[row.id].result()
    answer = done.answer
    for name, value in row.results.items():
        assert answer["results"][name] == pytest.approx(value), answer
    warnings = [w for w in answer["warnings"] if re.search(row.warning, w)] if row.warning else answer["warnings"]
    assert len(warnings) == bool(row.warning), answer["warnings"]
    assert len(set(answer["warnings"])) == len(answer["warnings"]), "each warning comes once"


def test_the_table_is_large_enough():
    assert len({row.id for row in ROWS}) == len(ROWS) >= 45
