"""What a command imports before it does its work: the budgets of `--help` and `import cribble`."""

import json
import subprocess
import sys

import pytest
from cribble.tests.cli.bad_rows import QRELS, RUN
from cribble.tests.cli.script import write_files

HEAVY = {"torch", "transformers", "sentence_transformers", "faiss", "ranx", "numba", "scipy", "matplotlib", "pyserini"}
DATA = {"numpy", "pyarrow", "pandas"}


def imported(cribble, *arguments, cwd):
    """Top-level packages of which the console script imports something (a failed import shows no inner modules)."""
    command = [sys.executable, "-X", "importtime", cribble.path, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, env=cribble.environment())
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    return {name.partition(".")[0] for name in names if "." in name}


def cpu_seconds(*command, cwd):
    """Processor time of a process, the least of three: a busy machine adds to it, nothing takes away."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    line = [sys.executable, "-c", code, *command]
    return min(float(subprocess.run(line, cwd=cwd, capture_output=True, check=True).stdout) for _ in range(3))


def test_importing_the_package_imports_nothing_else(tmp_path):
    code = "import sys; before = set(sys.modules); import cribble, json; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert {name.partition(".")[0] for name in json.loads(done.stdout)} & (HEAVY | DATA) == set()
    assert [name for name in json.loads(done.stdout) if name.startswith("cribble.")] == []


def test_importing_the_package_is_quick(tmp_path):
    assert cpu_seconds(sys.executable, "-c", "import cribble", cwd=tmp_path) < 0.2


def test_help_is_quick_and_imports_no_library(cribble, tmp_path):
    assert imported(cribble, "--help", cwd=tmp_path) & (HEAVY | DATA) == set()
    assert cpu_seconds(cribble.path, "--help", cwd=tmp_path) < 0.5


def test_eval_imports_no_network_library_and_no_pandas(cribble, tmp_path):
    write_files(tmp_path, {"run.trec": RUN, "qrels.txt": QRELS})
    packages = imported(cribble, "eval", "run.trec", "--qrels", "qrels.txt", "--json", cwd=tmp_path)
    assert "numpy" in packages
    assert packages & (HEAVY | {"pandas"}) == set()


@pytest.mark.parametrize("what", ["retrievers", "rerankers", "measures", "fusions", "configs", "datasets"])
def test_lists_import_no_network_library(what, cribble, tmp_path):
    assert imported(cribble, "list", what, cwd=tmp_path) & HEAVY == set()
