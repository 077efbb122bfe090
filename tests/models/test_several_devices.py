"""Documents spread over two processes, which stand for two GPUs: the vectors of one process, in the same order."""

import os
import signal

import numpy as np
import pytest
from cribble.errors import SetupError
from cribble.models.encoder import Encoder
from cribble.models.encoders import make_encoder
from cribble.models.several_devices import SeveralDevicesEncoder
from cribble.records import Document
from cribble.tests.models.conftest import WORDS

DOCUMENTS = [Document(f"d{i}", " ".join(WORDS[i % 7 : i % 7 + 1 + i * 5 % 31] * (1 + i % 5))) for i in range(70)]


@pytest.fixture(scope="module")
def spread(bert_cls):
    encoder = make_encoder(str(bert_cls), device="cpu,cpu", max_length=24)
    assert isinstance(encoder, SeveralDevicesEncoder)
    return encoder


def test_vectors_are_those_of_one_process(spread):
    """Batches differ, so float32 sums may by 1e-6."""
    alone = Encoder(spread.model, device="cpu", max_length=24)
    expected = alone.encode_documents(DOCUMENTS).values
    assert np.abs(spread.encode_documents(DOCUMENTS).values - expected).max() < 1e-6
    assert spread.truncated == alone.truncated > 0
    assert spread.spec == alone.spec
    assert len(spread.workers) == 2
    few = DOCUMENTS[:5]
    assert np.abs(spread.encode_documents(few).values - alone.encode_documents(few).values).max() < 1e-6


def test_a_dead_process_is_told(spread):
    worker = spread.workers[1]
    os.kill(worker.submit(os.getpid).result(), signal.SIGKILL)
    with pytest.raises(SetupError, match="the process of device cpu died"):
        spread.encode_documents(DOCUMENTS)


def test_a_device_that_is_not_there_is_refused(bert_cls):
    import torch

    number = torch.cuda.device_count()
    encoder = make_encoder(str(bert_cls), device=f"cpu,cuda:{number}")
    with pytest.raises(SetupError, match="CUDA device"):
        encoder.encode_documents(DOCUMENTS)
