"""Pictures as bags of vocabulary terms (LexLIP): a tiny ViT under a BERT's head, from the files to a run."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from cribble.corpora import load_dataset
from cribble.errors import InputError
from cribble.models.sparse_encoder import SparseEncoder
from cribble.records import Document, Query
from cribble.retrievers.sparse import SparseRetriever
from cribble.tests.models.sparse_models import TERMS, dense, save_lexlip, save_mlm


@pytest.fixture(scope="module")
def lexlip(tmp_path_factory):
    return save_lexlip(tmp_path_factory.mktemp("lexlip") / "lexlip")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of four pictures, half of one, and an empty file."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(3)
    for i, name in enumerate(["a.png", "b.png", "c.png", "d.png"]):
        Image.fromarray(chance.integers(0, 255, (40 + i, 50, 3), dtype=np.uint8)).save(folder / name)
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "none.jpg").write_bytes(b"")
    return folder


def expected_terms(folder, files):
    """The paper's formula by transformers alone: BERT's head over ViT's states, largest, ReLU, log(1 + x), in float64."""
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForMaskedLM, ViTModel

    seen, bare = folder.with_name("lexlip-vit"), folder.with_name("lexlip-mlm")
    vision, bert = ViTModel.from_pretrained(seen).double(), AutoModelForMaskedLM.from_pretrained(bare).double()
    images = [Image.open(file).convert("RGB") for file in files]
    pixels = AutoImageProcessor.from_pretrained(seen)(images=images, return_tensors="pt")["pixel_values"].double()
    with torch.inference_mode():
        logits = bert.cls(vision(pixel_values=pixels).last_hidden_state)
    return logits.amax(1).relu().log1p().numpy()


def test_terms_of_pictures_are_the_heads_over_patches(lexlip, pictures):
    encoder = SparseEncoder(lexlip, device="cpu")
    documents = list(load_dataset(f"images:{pictures}").documents())
    got = encoder.encode_documents(documents)
    expected = expected_terms(lexlip, [document.metadata["image_file"] for document in documents])
    assert got.terms == TERMS
    assert np.abs(dense(got) - expected).max() <= 1e-5 * max(1, expected.max())
    queries = encoder.encode_queries(["cat dog"])
    text = SparseEncoder(lexlip.with_name("lexlip-mlm"), device="cpu")
    assert np.allclose(dense(queries), dense(text.encode_queries(["cat dog"])), atol=1e-5)


def test_pictures_are_found_by_texts_in_the_same_inverted_index(lexlip, pictures, tmp_path, caplog):
    data = load_dataset(f"images:{pictures}")
    with caplog.at_level(logging.WARNING, "cribble"):
        retriever = SparseRetriever.build(
            data, tmp_path / "index", model=str(lexlip), device="cpu", storage="float32", document_terms=50
        )
    assert "2 files are missing or no readable images and are left out" in caplog.text
    run = retriever([Query("1", "a cat by the river")])
    encoder = SparseEncoder(lexlip, device="cpu", document_terms=50)
    documents = list(data.documents())
    products = dense(encoder.encode_documents(documents)).astype(np.float64) @ dense(
        encoder.encode_queries(["a cat by the river"])
    )[0].astype(np.float64)
    by_id = {document.id: score for document, score in zip(documents, products, strict=True)}
    assert sorted(run["1"].ids) == ["a.png", "b.png", "c.png", "d.png"]
    assert run["1"].scores == pytest.approx([by_id[i] for i in run["1"].ids], rel=1e-5)


def test_queries_may_be_bags_of_words(tmp_path, pictures):
    encoder = SparseEncoder(save_lexlip(tmp_path / "bags", bag_of_words=True), device="cpu")
    got = encoder.encode_queries(["cat dog cat"])
    assert set(got.weights) == {1.0}
    assert len(got.ids) == 2


def test_a_text_among_pictures_and_a_picture_for_a_model_of_texts_are_refused(lexlip, pictures, tmp_path):
    with pytest.raises(InputError, match="makes terms of pictures only, and document 't' is a text"):
        SparseEncoder(lexlip, device="cpu").encode_documents([Document("t", "cat")])
    picture = next(load_dataset(f"images:{pictures}").documents())
    with pytest.raises(InputError, match="reads texts only, and the documents are pictures"):
        SparseEncoder(save_mlm(tmp_path / "bert"), device="cpu").encode_documents([picture])


def test_a_head_of_another_width_is_refused(lexlip, tmp_path):
    from cribble.models.pooling.image_terms import ImageTerms

    with pytest.raises(InputError, match="both have to be of one width"):
        ImageTerms.of(lexlip.with_name("lexlip-vit"), save_mlm(tmp_path / "wide", width=40))
