"""Learned sparse retrieval from the shell: expand, index, retrieve; pictures indexed as terms and searched by words."""

from __future__ import annotations

import numpy as np
from cribble.run_files import read_run
from cribble.tests.cli.script import DOCUMENTS, QUERIES
from cribble.tests.models.sparse_models import save_lexlip
from cribble.tests.models.tiny_language_models import save_language_model


def test_expand_index_retrieve_and_pictures(cribble, collection, tmp_path):
    from PIL import Image

    lexlip = save_lexlip(tmp_path / "lexlip")
    mlm, writer = tmp_path / "lexlip-mlm", save_language_model(tmp_path / "t5", "t5")
    done = cribble(
        *("expand", f"beir:{collection}", "--model", writer, "--out", tmp_path / "expanded"),
        *("--queries", 2, "--max-tokens", 5, "--json"),
        cwd=tmp_path,
    )
    assert (done.results["documents"], done.results["queries"], done.results["resumed"]) == (len(DOCUMENTS), 2, 0)
    done = cribble(
        *("index", f"beir:{tmp_path / 'expanded'}", "--retriever", "sparse", "--engine", "inverted", "--model", mlm),
        *("--set", "document_terms=30", "--set", "quantise=naver", "--out", tmp_path / "index", "--json"),
        cwd=tmp_path,
    )
    assert (done.results["kind"], done.results["documents"]) == ("inverted", len(DOCUMENTS))
    assert done.results["counts"]["postings"] <= 30 * len(DOCUMENTS)
    done = cribble(
        *("retrieve", tmp_path / "index", "--dataset", f"beir:{collection}", "--out", tmp_path / "run.trec"),
        *("--set", "query_terms=20", "--json"),
        cwd=tmp_path,
    )
    run = read_run(tmp_path / "run.trec")
    assert set(run) == set(QUERIES)
    assert all(score == round(score) for query in run for score in run[query].scores)  # whole numbers on both sides

    (tmp_path / "pictures").mkdir()
    chance = np.random.default_rng(1)
    for name in ("cat.png", "dog.png"):
        Image.fromarray(chance.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"no picture")
    images = ("index", f"images:{tmp_path / 'pictures'}", "--retriever", "sparse", "--model", lexlip)
    done = cribble(*images, "--out", tmp_path / "seen", "--json", cwd=tmp_path)
    assert done.results["documents"] == 2
    assert "1 files are missing or no readable images" in done.answer["warnings"][0]
    found = cribble("search", tmp_path / "seen", "a cat by the river", "--json", cwd=tmp_path)
    assert {hit["id"] for hit in found.results} == {"cat.png", "dog.png"}
    refused = cribble(*images, "--engine", "lucent", "--out", tmp_path / "none", cwd=tmp_path)
    assert refused.code == 2
    assert "engine 'lucent' is unknown: did you mean 'lucene'" in refused.error
