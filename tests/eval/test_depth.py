"""Depth against scipy's distances, the authors' own numbers, samples, deleted documents and the command."""

import json

import numpy as np
import pytest
from cribble.cli import app
from cribble.errors import InputError, UsageError
from cribble.eval.depth import corpus_depths, rank_test
from cribble.index.flat import FlatIndex
from cribble.records import Document
from cribble.tests.index.builds import SPEC, build_flat, encode, make_documents
from cribble.vectors import Dense, EncoderSpec
from scipy.spatial.distance import cdist
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two corpora with 60 and 37 documents, one of which has a zero vector."""
    root = tmp_path_factory.mktemp("depth")
    build_flat(root / "f", make_documents(60))
    build_flat(root / "g", [*make_documents(36), Document("empty", "")])
    return root


def open_both(folders):
    return FlatIndex.open(folders / "f"), FlatIndex.open(folders / "g")


def distances(index, other, distance):
    """The distance matrix between the stored vectors in float64; scipy's where no vector is zero."""
    one, two = (i.vectors(np.arange(len(i))).astype(np.float64) for i in (index, other))
    with np.errstate(invalid="ignore"):
        one, two = (np.nan_to_num(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in (one, two))
    if one.any(axis=1).all() and two.any(axis=1).all():
        return cdist(one, two, "cosine" if distance == "cosine" else "euclidean")
    return 1 - one @ two.T if distance == "cosine" else np.sqrt(np.maximum(2 - 2 * one @ two.T, 0))


@pytest.mark.parametrize("distance", ["cosine", "chord"])
def test_depths_equal_means_of_the_distance_matrix(distance, folders):
    """Oracle: the whole matrix in float64, 1e-12; a document is not compared with itself."""
    f, g = open_both(folders)
    for index in (f, g):
        matrix = distances(index, index, distance)
        np.fill_diagonal(matrix, 0)
        expected = 2 - matrix.sum(axis=1) / (len(index) - 1)
        depths = corpus_depths(index, distance=distance)
        assert depths.values == pytest.approx(expected, abs=1e-12 if distance == "cosine" else 1e-7)
        assert depths.exact
        assert depths.ids.tolist() == index.texts.ids.to_pylist()
    depths = corpus_depths(g, f, distance=distance)
    assert depths.values == pytest.approx(2 - distances(g, f, distance).mean(axis=1), abs=1e-12)
    assert (depths.reference, depths.zero_vectors) == (60, 1)


F = [[0.5, 0.1, -0.3], [0.2, 0.4, 0.1], [-0.3, 0.2, 0.5], [0.1, -0.6, 0.2], [0.3, 0.3, 0.3]]
G = [[0.4, 0.2, 0.1], [-0.2, -0.5, -0.4], [-0.6, 0.1, -0.1]]
AUTHORS = {
    "cosine": (
        [0.9364879878306278, 1.2134643383621753, 0.9319965236474761, 0.6841099994880699, 1.3197051399513011],
        [1.4163176338618282, 0.5904153943996615, 0.6893143096256373],
    ),
    "chord": (
        [0.5752128103618617, 0.8408488673497263, 0.5684193561402948, 0.38289711185315856, 0.9030768401555556],
        [1.0167584651291917, 0.35870994143561785, 0.40228697494974464],
    ),
}


@pytest.mark.parametrize("distance", ["cosine", "chord"])
def test_depths_and_test_equal_the_authors_package(distance, tmp_path):
    """Oracle: tte_depth 1.0.0 on the unit vectors of F and G, 1e-7 as the index stores float32; its Q is `q_pooled`."""
    spec = EncoderSpec("given", dim=3, similarity="cosine")

    def build(name, rows):
        documents = [Document(str(i), "text") for i in range(len(rows))]
        return build_flat(tmp_path / name, documents, lambda batch: Dense(np.array(rows, np.float32)), spec=spec)

    f, g = build("f", F), build("g", G)
    mine, theirs = corpus_depths(f, distance=distance), corpus_depths(g, f, distance=distance)
    assert mine.values == pytest.approx(AUTHORS[distance][0], abs=2e-7)
    assert theirs.values == pytest.approx(AUTHORS[distance][1], abs=2e-7)
    test = rank_test(mine.values, theirs.values)
    assert (test.w, test.p, test.q_pooled) == pytest.approx((0.4472135954999579, 0.32736042300928847, 0.375), abs=1e-12)


def test_q_counts_pairs():
    rng = np.random.default_rng(1)
    one, two = rng.integers(0, 9, 50) / 9, rng.integers(0, 9, 31) / 9
    test = rank_test(one, two)
    assert test.q == pytest.approx((one[:, None] <= two[None, :]).mean())
    both = np.concatenate([one, two])
    assert test.q_pooled == pytest.approx((both[:, None] < two[None, :]).mean())
    assert rank_test(one + 2, two).q == 0


def test_a_corpus_of_other_texts_lies_further_out(tmp_path):
    index = build_flat(tmp_path / "sea", make_documents(60))
    alike = build_flat(tmp_path / "alike", make_documents(41))
    other = build_flat(tmp_path / "other", [Document(f"o{i}", f"quark lepton boson {i}") for i in range(40)])
    depths = corpus_depths(index).values
    assert rank_test(depths, corpus_depths(other, index).values).p < 1e-6
    assert rank_test(depths, corpus_depths(alike, index).values).p > 0.01


def test_a_sample_is_drawn_by_its_seed_and_says_so(folders):
    f, _ = open_both(folders)
    exact = corpus_depths(f, distance="chord")
    one, again, other = (corpus_depths(f, distance="chord", sample=40, seed=seed) for seed in (1, 1, 2))
    assert (one.exact, one.reference) == (False, 40)
    assert np.array_equal(one.values, again.values)
    assert not np.array_equal(one.values, other.values)
    assert np.corrcoef(one.values, exact.values)[0, 1] > 0.9
    assert np.array_equal(
        corpus_depths(f, sample=5).values, corpus_depths(f).values
    )  # the cosine's means need no sample


def test_indexes_that_do_not_fit_are_refused(folders, tmp_path):
    f, _ = open_both(folders)
    other = build_flat(tmp_path / "other", make_documents(3), spec=EncoderSpec("other", dim=SPEC.dim))
    with pytest.raises(InputError, match="made by another encoder"):
        corpus_depths(other, f)
    with pytest.raises(InputError, match="at least two documents"):
        corpus_depths(build_flat(tmp_path / "one", make_documents(1)))
    with pytest.raises(UsageError, match="distance is 'l1'"):
        corpus_depths(f, distance="l1")
    with pytest.raises(UsageError, match="sample is 1"):
        corpus_depths(f, sample=1)


def test_the_command_shows_both_ends_and_the_test(folders, tmp_path):
    out = tmp_path / "depths.tsv"
    arguments = [
        "depth",
        str(folders / "f"),
        "--against",
        str(folders / "g"),
        "--top",
        "3",
        "--out",
        str(out),
        "--json",
    ]
    shown = CliRunner().invoke(app, arguments)
    results = json.loads(shown.stdout)["results"]
    f, g = open_both(folders)
    depths = corpus_depths(f)
    order = depths.ids[depths.ranked()].tolist()
    assert [row["id"] for row in results["central"]] == order[:3]
    assert [row["id"] for row in results["outlying"]] == order[::-1][:3]
    theirs = corpus_depths(g, f)
    assert results["against"]["p"] == rank_test(depths.values, theirs.values).p
    rows = [line.split("\t") for line in out.read_text().splitlines()[1:]]
    assert [float(value) for _, _, value in rows] == [*depths.values.tolist(), *theirs.values.tolist()]
    assert "rank sum test" in CliRunner().invoke(app, arguments[:-1]).stdout


def test_vectors_come_in_the_order_asked_for(folders):
    f, _ = open_both(folders)
    rows = np.array([59, 0, 17, 17, 3])
    documents = make_documents(60)
    values = encode([documents[i] for i in rows]).values
    assert f.vectors(rows) == pytest.approx(values / np.linalg.norm(values, axis=1, keepdims=True), abs=1e-7)
    assert f.vectors(np.array([], int)).shape == (0, SPEC.dim)
    with pytest.raises(IndexError, match="rows 3 to 60 of 60"):
        f.vectors(np.array([60, 3]))
