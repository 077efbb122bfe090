"""Training of binarisers: what it gains, that it repeats itself, that it goes on after a kill, compatible models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.models.recurrent_binarisation import RecurrentBinariser
from cribble.training.bebr import BebrOptions, Material, train_bebr
from cribble.training.state import PLAN, STATE

SMALL = BebrOptions(bits=64, epochs=4, batch=256, patience=4)


def clustered(count: int = 1200, dim: int = 48, seed: int = 0) -> np.ndarray:
    """Unit vectors about 60 centres, with a spectrum that falls."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(dim))
    centres = rng.standard_normal((60, dim)) * scale
    vectors = centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, dim)) * scale
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def material(vectors: np.ndarray, **more: object) -> Material:
    return Material(vectors, "cosine", {"corpus": "test"}, **more)  # type: ignore[arg-type]


def overlap(queries: np.ndarray, documents: np.ndarray, true: np.ndarray, k: int = 10) -> float:
    """The share of the true nearest `k` that cosines of these find."""
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, documents)]
    found, wanted = (np.argsort(-s, axis=1, kind="stable")[:, :k] for s in (unit[0] @ unit[1].T, true))
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, wanted, strict=True)]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RecurrentBinariser:
    return train_bebr(material(clustered()), tmp_path_factory.mktemp("bebr") / "old", SMALL)


def test_the_same_seed_gives_the_same_weights(trained: RecurrentBinariser, tmp_path: Path) -> None:
    again = train_bebr(material(clustered()), tmp_path / "again", SMALL)
    other = train_bebr(material(clustered()), tmp_path / "other", replace(SMALL, seed=7))
    assert again.sha256 == trained.sha256
    assert again.training["history"] == trained.training["history"]
    assert other.sha256 != trained.sha256
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"model.safetensors", "binariser.json"}


_KILLED = """
import os, signal
from pathlib import Path
import cribble.tests.training.test_bebr as test_bebr
import cribble.training.bebr_run as run
real = run.write_state
def write_and_die(folder, progress):
    real(folder, progress)
    if progress.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
run.write_state = write_and_die
run_of = test_bebr.train_bebr(test_bebr.material(test_bebr.clustered()), Path({out!r}), test_bebr.SMALL)
"""


def test_a_killed_training_goes_on_to_the_same_weights(trained: RecurrentBinariser, tmp_path: Path) -> None:
    code = _KILLED.format(out=str(tmp_path / "m"))
    died = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert {path.name for path in (tmp_path / "m").iterdir()} == {PLAN, STATE}
    with pytest.raises(InputError, match=r"holds no binariser.json"):
        RecurrentBinariser.load(tmp_path / "m")
    with pytest.raises(SetupError, match="another training was interrupted here"):
        train_bebr(material(clustered()), tmp_path / "m", replace(SMALL, epochs=5))
    epochs = []
    went_on = train_bebr(material(clustered()), tmp_path / "m", SMALL)
    epochs = [line["epoch"] for line in went_on.training["history"]]
    assert epochs == [0, 1, 2, 3, 4]
    assert went_on.training["history"] == trained.training["history"]
    assert went_on.sha256 == trained.sha256
    with pytest.raises(SetupError, match="a trained model is here already"):
        train_bebr(material(clustered()), tmp_path / "m", SMALL)


def test_it_ranks_better_than_signs_at_equal_bits(tmp_path: Path) -> None:
    """48 bits of 48 dimensions; oracle: the float ranking of 200 vectors that were not trained on."""
    vectors = clustered(1600)
    asked, documents = vectors[:200], vectors[200:]
    made = train_bebr(material(documents), tmp_path / "m", replace(SMALL, bits=48))
    true = asked @ documents.T
    signs = overlap(np.sign(asked), np.sign(documents), true)
    plain = replace(made, refinement=None)
    assert overlap(made.values(asked), made.values(documents), true) > signs + 0.1
    assert overlap(plain.values(asked), plain.values(documents), true) > signs + 0.08


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "contrastive"},
        {"start": "random"},
        {"start": "random", "hidden": 64},
        {"start": "random", "hidden": 64, "blocks": 2},
        {"temperature": 0.05},
        {"noise": 0.3},
        {"rate": 1e-3},
        {"batch": 128},
        {"per_seed": 4},
        {"held_out": 0.2},
        {"refine": 0},
        {"sample": 300},
        {"epochs": 0},
        {"width": 64, "bits": None},
        {"planes": 1},
    ],
    ids=str,
)
def test_every_option_has_an_effect(options: dict[str, object], trained: RecurrentBinariser, tmp_path: Path) -> None:
    short = replace(SMALL, epochs=1, **{k: v for k, v in options.items() if k != "epochs"})  # type: ignore[arg-type]
    short = replace(short, epochs=options.get("epochs", 1))  # type: ignore[arg-type]
    base = train_bebr(material(clustered()), tmp_path / "base", replace(SMALL, epochs=1))
    assert train_bebr(material(clustered()), tmp_path / "m", short).sha256 != base.sha256


def test_codes_compatible_with_an_older_encoders(trained: RecurrentBinariser, tmp_path: Path) -> None:
    """The new vectors are the old ones turned, stretched and disturbed; the new binariser has more bits. New queries on old
    codes against old ones on old codes, both by the old float ranking."""
    rng = np.random.default_rng(5)
    old = clustered()
    turned = old @ (np.linalg.qr(rng.standard_normal((48, 48)))[0] * np.linspace(0.8, 1.2, 48))
    new = turned + 0.02 * rng.standard_normal(turned.shape)
    new = (new / np.linalg.norm(new, axis=1, keepdims=True)).astype(np.float32)
    rows, asked = np.arange(1000), np.arange(1000, 1200)
    options = replace(SMALL, bits=None, width=trained.shape.width, planes=3)
    fresh = material(new[rows], older=trained, its_vectors=old[rows])
    made = train_bebr(fresh, tmp_path / "new", options)
    assert made.compatible_with == (trained.sha256,)
    codes, true = trained.values(old[rows]), old[asked] @ old[rows].T
    before, after = overlap(trained.values(old[asked]), codes, true), overlap(made.values(new[asked]), codes, true)
    alone = train_bebr(material(new[rows]), tmp_path / "alone", options)
    assert after > before - 0.05
    assert overlap(alone.values(new[asked]), codes, true) < before / 2
    with pytest.raises(UsageError, match="set width="):
        train_bebr(fresh, tmp_path / "wide", replace(SMALL, bits=None, width=trained.shape.width + 8))
    with pytest.raises(InputError, match="takes vectors of 48 dimensions"):
        train_bebr(replace(fresh, its_vectors=old[rows][:, :8]), tmp_path / "narrow", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "kl"}, "objective 'kl' is unknown"),
        ({"start": "pca"}, "start 'pca' is unknown"),
        ({"hidden": 8}, "start=rotation sets linear maps"),
        ({"blocks": 2}, "blocks=2 has no effect"),
        ({"epochs": -1}, "epochs is -1"),
        ({"per_seed": 99}, "per_seed is 99"),
        ({"planes": 0}, "planes is 0"),
        ({"held_out": 0.9}, "held_out 0.9"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BebrOptions(**options)  # type: ignore[arg-type]


def test_shapes_by_rule() -> None:
    """Bits per dimension plus one a coordinate: 96 and 48 bytes of 384 dimensions, and what is given instead."""
    found = [(shape.width, shape.planes) for shape in (BebrOptions(bits=b).shape(384) for b in (192, 384, 768, 1536))]
    assert found == [(96, 2), (192, 2), (256, 3), (384, 4)]
    assert (BebrOptions(bits=768, planes=2).shape(384).width, BebrOptions(width=128).shape(384).planes) == (384, 2)
    with pytest.raises(UsageError, match="leave one out"):
        BebrOptions(bits=64, width=32, planes=2).shape(48)
    with pytest.raises(UsageError, match="bits is 100"):
        BebrOptions(bits=100).shape(384)
    with pytest.raises(InputError, match="at least 64"):
        material(clustered(10))
