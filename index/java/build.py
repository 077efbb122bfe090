"""Compile the Java sources beside this file into `index/lucene.jar`. A developer's script: users get the jar.

Run it after every change of a source:  python index/java/build.py   (needs `javac` 17 or newer and pyserini's jar).
The jar's manifest records the SHA-256 of the sources, and a test compares them. Lucene 9's classes are of Java 11, so
any newer compiler reads them; Anserini's are of Java 21, and nothing here refers to them at compile time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
JAR = HERE.parent / "lucene.jar"
RELEASE = "17"


def sources_sha256() -> str:
    """One digest over the names and contents of all Java sources."""
    digest = hashlib.sha256()
    for source in sorted(HERE.glob("*.java")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def lucene_classes() -> Path:
    spec = importlib.util.find_spec("pyserini")
    if spec is None or spec.origin is None:
        sys.exit("pyserini is not installed: its jar holds the Lucene classes to compile against")
    return max(Path(spec.origin).parent.glob("resources/jars/anserini-*-fatjar.jar"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted(map(str, HERE.glob("*.java")))
        command = ["javac", "--release", RELEASE, "-g:none", "-cp", str(lucene_classes()), "-d", folder, *sources]
        subprocess.run(command, check=True)
        manifest = (
            f"Manifest-Version: 1.0\r\nSources-SHA-256: {sources_sha256()[:40]}\r\n {sources_sha256()[40:]}\r\n\r\n"
        )
        with zipfile.ZipFile(JAR, "w", zipfile.ZIP_DEFLATED) as jar:
            members = [("META-INF/MANIFEST.MF", manifest.encode())]
            members += [(f"cribble/{p.name}", p.read_bytes()) for p in sorted(Path(folder, "cribble").glob("*.class"))]
            for name, content in members:
                jar.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # fixed date: equal input, equal jar


if __name__ == "__main__":
    main()
