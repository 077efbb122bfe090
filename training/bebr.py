"""Training a binariser (BEBR) on an index's stored vectors alone: no texts, no judgements.

The vectors are their own teacher. Batches hold neighbours (pairs.py), an anchor is a vector moved by noise, so that it lies
from its document about as far as a query does, and the codes' scores of all documents in the batch are to rank as the
vectors' do (`distil`). The paper's objective needs pairs of views; with `contrastive` a vector and its moved copy are one.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bebr_material import Material
from .bebr_options import BebrOptions
from .bebr_run import BebrTraining
from .state import begin, end

if TYPE_CHECKING:
    from ..models.recurrent_binarisation import RecurrentBinariser

__all__ = ["BebrOptions", "Material", "train_bebr"]


def train_bebr(
    material: Material, out: str | Path, options: BebrOptions | None = None, *, overwrite: bool = False
) -> RecurrentBinariser:
    """Train a binariser and write it to the folder `out`; a run that was interrupted there goes on after its last epoch.

    The same material, options and versions give the same weights on one machine. Errors: those of `state.begin`;
    `UsageError` for options that don't fit; `InputError` for too few vectors or an older binariser of another width.
    """
    options, out, start = options or BebrOptions(), Path(out), time.perf_counter()
    shape = options.shape(material.vectors.shape[1])
    material.check_older(shape)
    material = material.sampled(options.sample, options.seed)
    plan = _plan(material, options)
    before = begin(out, plan, "binariser.json", overwrite=overwrite)
    run = BebrTraining(material, options, shape)
    done = run.epochs(out, before)
    made = run.finished(done)
    facts = plan | {
        "versions": _versions(),
        "best_epoch": done.best_epoch,
        "fidelity": run.fidelity(made),
        "history": done.history,
        "seconds": round(time.perf_counter() - start, 1),
    }
    older = material.older
    made = replace(made, compatible_with=(older.sha256, *older.compatible_with) if older else (), training=facts)
    made = made.save(out)
    end(out)
    return made


def _plan(material: Material, options: BebrOptions) -> dict[str, Any]:
    older = material.older
    return {
        "options": asdict(options),
        "similarity": material.similarity,
        "vectors": len(material.vectors),
        "fingerprint": material.fingerprint,
        "facts": material.facts,
        "compatible_with": older.sha256 if older else None,
    }


def _versions() -> dict[str, str]:
    from ..index.manifest import library_versions

    return dict(library_versions(("torch", "numpy")))
