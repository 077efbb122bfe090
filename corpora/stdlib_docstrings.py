"""Docstrings of the standard library of the interpreter that runs this file, as one JSON object {name: text} on stdout.

Run on its own, `python -I -S stdlib_docstrings.py`, by sample.py: it imports about 250 modules, which is nothing to do
inside of somebody's process, and nothing that somebody's process may influence. It imports nothing of cribble.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import pkgutil
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

#: Not documentation of the library (tests, demos, code tables), or an import that acts: opens a browser, prints a poem,
#: touches the terminal, needs a display.
_SKIPPED = frozenset([
    "antigravity", "encodings", "ensurepip", "genericpath", "idlelib", "lib2to3", "ntpath", "nt", "nturl2path",
    "opcode", "posix", "posixpath", "pydoc_data", "readline", "rlcompleter", "sre_compile", "sre_constants",
    "sre_parse", "test", "this", "tkinter", "turtle", "turtledemo", "venv",
])  # fmt: skip
#: Deprecated or gone (PEP 594, PEP 632, and asyncore's family): newer interpreters lack them.
_DEPRECATED = frozenset([
    "aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr", "imp",
    "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "smtpd", "spwd", "sunau",
    "telnetlib", "uu", "xdrlib",
])  # fmt: skip
_SKIPPED_PARTS = frozenset(["test", "tests", "__main__", "idle_test", "macholib"])

#: Docstrings with fewer words say nothing that could be searched.
_FEWEST_WORDS = 3


def docstrings() -> dict[str, str]:
    """Qualified name → docstring of everything public."""
    texts: dict[str, str] = {}
    taken: set[int] = set()
    modules = list(_modules())
    with _quietly():  # a module may warn when an attribute is read
        for name, module in modules:
            _put(texts, name, module.__doc__)
            for path, value in _members(name, module):
                _describe(texts, taken, path, value)
    return texts


# ---- modules ------------------------------------------------------------------------------------------------------------


def _modules() -> Iterator[tuple[str, ModuleType]]:
    """(public name, module), packages before what is inside them, so that `asyncio.run` isn't `asyncio.runners.run`."""
    tops = sorted(n for n in sys.stdlib_module_names if not n.startswith("_") and n not in _SKIPPED | _DEPRECATED)
    level = [name for name in tops if _is_of_the_library(name)]
    while level:
        deeper = []
        for name in level:
            module = _import(name)
            if module is not None:
                yield name, module
                deeper += [f"{name}.{part}" for part in _public_parts(module)]
        level = deeper
    yield "os.path", importlib.import_module("os.path")
    yield "collections.abc", importlib.import_module("collections.abc")


def _is_of_the_library(name: str) -> bool:
    """Whether the import would find the library's own module, not a file of the same name in the user's folder."""
    if name in sys.builtin_module_names:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        return spec is not None
    homes = {str(Path(sysconfig.get_path(key)).resolve()) for key in ("stdlib", "platstdlib")}
    origin = Path(str(spec.origin)).resolve()
    return any(home in map(str, origin.parents) for home in homes) and "site-packages" not in origin.parts


def _public_parts(module: ModuleType) -> list[str]:
    names = (part.name for part in pkgutil.iter_modules(getattr(module, "__path__", ())))
    return sorted(name for name in names if not name.startswith("_") and name not in _SKIPPED_PARTS)


def _import(name: str) -> ModuleType | None:
    """The module, or None where this machine can't import it (another system's, or built without a C library)."""
    try:
        with _quietly():
            return importlib.import_module(name)
    except (Exception, SystemExit):
        return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


# ---- what is inside them ---------------------------------------------------------------------------------------------


def _members(name: str, module: ModuleType) -> list[tuple[str, Any]]:
    """(qualified name, object) of the public functions and classes that are at home in the module.

    Functions come first, so that `random.choice` isn't known as `random.Random.choice` only.
    """
    listed = getattr(module, "__all__", None)
    prefix = "" if name == "builtins" else f"{name}."
    found = []
    for attribute in sorted({*vars(module), *(listed or ())}):
        value = getattr(module, attribute, None)
        if attribute.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        home = getattr(value, "__module__", None) or name  # C functions may not tell where they live
        own = home == name or home.startswith(f"{name}.")
        unlisted = listed is None and (own or home == "posix" or home.startswith("_") or name == "builtins")
        if attribute in (listed or ()) or unlisted or (own and home != name):
            found.append((prefix + attribute, value))
    return sorted(found, key=lambda pair: inspect.isclass(pair[1]))


def _describe(texts: dict[str, str], taken: set[int], path: str, value: Any) -> None:
    """Take a function, or a class with its own members; what has been met under a shorter name is left."""
    function = getattr(value, "__func__", value)
    if id(function) in taken:
        return
    taken.add(id(function))
    if not inspect.isclass(value):
        _put(texts, path, value.__doc__)
        return
    _put(texts, path, _class_doc(value))
    for attribute, member in sorted(vars(value).items()):
        inner = getattr(member, "__func__", member)
        described = inspect.isroutine(inner) or inspect.isdatadescriptor(member)
        borrowed = "." not in getattr(inner, "__qualname__", ".")  # logging.Formatter.converter is time.localtime
        if not attribute.startswith("_") and described and not borrowed and id(inner) not in taken:
            taken.add(id(inner))
            _put(texts, f"{path}.{attribute}", inner.__doc__)


def _class_doc(value: type) -> str:
    """The class's own docstring (an inherited one describes another class) and that of its own constructor."""
    own = vars(value).get("__doc__")
    doc = inspect.cleandoc(own) if isinstance(own, str) else ""
    if re.fullmatch(rf"{value.__name__}\(.*\)", doc):
        doc = ""  # `dataclass` and `namedtuple` write the signature there
    constructor = vars(value).get("__init__")
    more = constructor.__doc__ if inspect.isfunction(constructor) else None
    return f"{doc}\n\n{inspect.cleandoc(more)}" if more else doc


def _put(texts: dict[str, str], path: str, doc: Any) -> None:
    """Add a docstring unless it is missing or too short to be found."""
    text = inspect.cleandoc(doc) if isinstance(doc, str) else ""
    if len(text.split()) >= _FEWEST_WORDS and not text.startswith("Alias for field number"):
        texts.setdefault(path, text)


if __name__ == "__main__":
    found = docstrings()
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    json.dump(found, sys.stdout)
