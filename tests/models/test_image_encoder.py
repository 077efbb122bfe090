"""Pictures as documents: a tiny CLIP against sentence-transformers, and the whole path from a folder to a ranking."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from cribble.corpora import load_dataset
from cribble.errors import InputError
from cribble.models.encoder import Encoder
from cribble.records import DescribedDocument, Document, Query

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def clip(tmp_path_factory, save_tokenizer):
    """A random CLIP: 24 dimensions, pictures of 32 × 32, its tokenizer trained on the spot."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "clip"
    torch.manual_seed(3)
    save_tokenizer(folder, decoder=False)
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = common | {"vocab_size": 600, "max_position_embeddings": 64, "eos_token_id": 3, "pad_token_id": 0}
    vision = common | {"image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five pictures in two folders, a broken one, an empty one, and a file that is no picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    (folder / "sub").mkdir()
    for i, name in enumerate(["a.png", "b.JPG", "sub/c.png", "sub/d.webp", "e.gif"]):
        pixels = chance.integers(0, 255, (40 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, **({"format": "JPEG"} if name.endswith("JPG") else {}))
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "none.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return folder


def oracle(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def opened(files):
    from PIL import Image

    return [Image.open(file).convert("RGB") for file in files]


def test_a_folders_pictures_are_documents_and_broken_ones_are_counted(pictures, caplog):
    with caplog.at_level(logging.WARNING, "cribble"):
        documents = list(load_dataset(f"images:{pictures}").documents())
    assert [document.id for document in documents] == ["a.png", "b.JPG", "e.gif", "sub/c.png", "sub/d.webp"]
    assert documents[3].metadata["image_file"] == str(pictures / "sub" / "c.png")
    assert "2 files are missing or no readable images and are left out" in caplog.text
    assert "half.png" in caplog.text


def test_listed_pictures_have_their_own_ids_and_missing_ones_are_counted(pictures, caplog):
    lines = [{"id": "one", "image": "a.png", "year": 2020}, {"id": "two", "image": "gone.png"}]
    path = pictures / "list.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with caplog.at_level(logging.WARNING, "cribble"):
        documents = list(load_dataset(f"images:{path}").documents())
    assert [(d.id, d.text, d.metadata["year"]) for d in documents] == [("one", "a.png", 2020)]
    assert "1 files are missing" in caplog.text
    assert "gone.png" in caplog.text


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_no_pictures_are_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"does not exist|holds no records"):
        list(load_dataset(f"images:{tmp_path / name}").documents())


def test_vectors_are_those_of_sentence_transformers(clip, pictures):
    model, encoder = oracle(clip), Encoder(clip, device="cpu")
    documents = list(load_dataset(f"images:{pictures}").documents())
    expected = model.encode(opened(document.metadata["image_file"] for document in documents))
    assert np.abs(encoder.encode_documents(documents).values - expected).max() <= TOLERANCE
    texts = ["cat", "a dog in the city", "a.png"]
    expected = model.encode([{"text": text} for text in texts])
    assert np.abs(encoder.encode_queries(texts).values - expected).max() <= TOLERANCE
    mixed = [documents[0], Document("t", "cat"), documents[1]]
    got = encoder.encode_documents(mixed).values
    assert np.abs(got[1] - expected[0]).max() <= TOLERANCE
    assert np.abs(got[[0, 2]] - encoder.encode_documents(documents[:2]).values).max() <= TOLERANCE


def test_an_index_of_pictures_is_searched_by_texts(clip, pictures, tmp_path):
    from cribble.retrievers.dense import DenseRetriever

    data = load_dataset(f"images:{pictures}")
    dense = DenseRetriever.build(data, tmp_path / "index", model=str(clip), device="cpu")
    run = dense([Query("1", "a cat by the river")])
    model = oracle(clip)
    files = [document.metadata["image_file"] for document in data.documents()]
    images, query = model.encode(opened(files)), model.encode([{"text": "a cat by the river"}])[0]
    cosines = images @ query / (np.linalg.norm(images, axis=1) * np.linalg.norm(query))
    by_id = dict(zip([document.id for document in data.documents()], cosines, strict=True))
    assert np.allclose(run["1"].scores, [by_id[i] for i in run["1"].ids], atol=1e-5)
    assert set(run["1"].ids) == set(by_id)
    assert dense.search("cat", 1)[0].document.text.endswith((".png", ".JPG", ".gif", ".webp"))


def test_a_model_of_texts_alone_refuses_pictures(bert_cls, pictures):
    document = DescribedDocument.of(Document("1", "a.png"), {"image_file": str(pictures / "a.png")})
    with pytest.raises(InputError, match="reads texts only, and the documents are pictures"):
        Encoder(bert_cls, device="cpu").encode_documents([document])


def test_a_picture_that_went_away_is_named(clip, tmp_path):
    document = DescribedDocument.of(Document("1", "x"), {"image_file": str(tmp_path / "x.png")})
    with pytest.raises(InputError, match=r"x\.png: can't be read as an image"):
        Encoder(clip, device="cpu").encode_documents([document])
