"""BEIR sets over loopback, from a real HTTP server: resume, checksum, safe unpacking, whole or absent."""

import hashlib
import io
import json
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from cribble.corpora import download, load_dataset
from cribble.corpora.facts import beir_sets
from cribble.errors import InputError, SetupError


def beir_zip(name="scifact", members=(), compression=zipfile.ZIP_STORED):
    """A BEIR archive of about 600 kB, as bytes; `members` are added as they are."""
    packed = io.BytesIO()
    rows = [{"_id": str(i), "title": "", "text": os.urandom(100).hex()} for i in range(2000)]
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr(f"{name}/corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        archive.writestr(f"{name}/queries.jsonl", '{"_id": "q", "text": "x"}\n')
        archive.writestr(f"{name}/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\t7\t1\n")
        for member, content in members:
            archive.writestr(member, content)
    return packed.getvalue()


class Host(BaseHTTPRequestHandler):
    """Serves `files`. `cut`: bytes after which a connection is dropped; `ranges`: whether Range is honoured."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        data = self.server.files.get(self.path.rpartition("/")[2])
        if data is None or self.server.status:
            self.send_error(self.server.status or 404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted and self.server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(data[start:][:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.close()

    def log_message(self, *args):
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A server whose archive of scifact carries the checksum that the facts name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.requests, server.cuts, server.ranges, server.status = [], [], True, 0
    server.files = {"scifact.zip": beir_zip()}
    monkeypatch.setenv("CRIBBLE_BEIR_URL", f"http://127.0.0.1:{server.server_port}/datasets/")
    monkeypatch.setenv("CRIBBLE_CACHE", str(tmp_path / "cache"))

    def know(data):
        server.files["scifact.zip"] = data
        monkeypatch.setitem(beir_sets(), "scifact", replace(beir_sets()["scifact"], md5=hashlib.md5(data).hexdigest()))

    server.know = know
    know(server.files["scifact.zip"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache" / "beir").iterdir() if not p.name.endswith(".lock"))


def test_a_name_is_downloaded_once(host, tmp_path):
    for _ in range(2):
        dataset = load_dataset("beir:scifact")
    assert dataset.id == "beir:scifact@test"
    assert len(list(dataset.documents())) == 2000
    assert dataset.qrels.to_dict() == {"q": {"7": 1}}
    assert [path for path, *_ in host.requests] == ["/datasets/scifact.zip"]
    assert cached(tmp_path) == ["scifact"]


def test_a_download_that_breaks_off_goes_on(host):
    host.cuts = [100_000, 200_000]
    assert len(list(load_dataset("beir:scifact").documents())) == 2000
    assert [wanted for _, wanted, _ in host.requests] == [None, "bytes=100000-", "bytes=300000-"]


def test_the_next_call_goes_on_too(host, tmp_path):
    host.cuts = [100_000] + [0] * download._ATTEMPTS
    with pytest.raises(SetupError, match=r"beir:scifact: can't download http://127.*the connection broke off"):
        load_dataset("beir:scifact")
    assert cached(tmp_path) == ["scifact.zip.part", "scifact.zip.part.etag"]
    host.requests.clear()
    assert load_dataset("beir:scifact").queries
    assert host.requests[0][1] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(host):
    host.cuts = [100_000] + [0] * download._ATTEMPTS
    with pytest.raises(SetupError):
        load_dataset("beir:scifact")
    host.know(beir_zip())  # other random text
    assert len(list(load_dataset("beir:scifact").documents())) == 2000


def test_a_server_without_range_starts_again(host):
    host.ranges, host.cuts = False, [100_000]
    assert len(list(load_dataset("beir:scifact").documents())) == 2000
    assert [wanted for _, wanted, _ in host.requests] == [None, "bytes=100000-"]


def test_a_complete_part_is_not_fetched_again(host, tmp_path):
    part = tmp_path / "cache" / "beir" / "scifact.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(host.files["scifact.zip"])
    assert load_dataset("beir:scifact").queries
    assert len(host.requests) == 1


def test_a_part_longer_than_the_file_is_thrown_away(host, tmp_path):
    part = tmp_path / "cache" / "beir" / "scifact.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(host.files["scifact.zip"]) + 5))
    assert load_dataset("beir:scifact").queries


def test_a_wrong_checksum_is_refused_and_removed(host, tmp_path):
    host.files["scifact.zip"] = beir_zip()
    with pytest.raises(SetupError, match=r"the MD5 of what arrived is [0-9a-f]{32}, expected [0-9a-f]{32}"):
        load_dataset("beir:scifact")
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    "escape", ["scifact/../../evil.txt", "../evil.txt", "/evil.txt", "scifact\\..\\..\\evil.txt", "C:/evil.txt"]
)
def test_members_that_would_leave_the_folder(host, tmp_path, escape):
    host.know(beir_zip(members=[(escape, "gotcha")]))
    with pytest.raises(InputError, match="would leave its folder: nothing was unpacked"):
        load_dataset("beir:scifact")
    assert not list(tmp_path.rglob("evil*"))
    assert "scifact" not in cached(tmp_path)


def test_links_in_an_archive(host, tmp_path):
    link = zipfile.ZipInfo("scifact/qrels/dev.tsv")
    link.external_attr = 0o120777 << 16
    host.know(beir_zip(members=[(link, "/etc/passwd")]))
    with pytest.raises(InputError, match=r"'scifact/qrels/dev\.tsv' would leave its folder"):
        load_dataset("beir:scifact")


def test_what_is_no_zip(host, tmp_path):
    host.know(b"<html>maintenance</html>")
    with pytest.raises(InputError, match="no whole zip archive"):
        load_dataset("beir:scifact")
    assert "scifact" not in cached(tmp_path)
    host.know(beir_zip())
    assert load_dataset("beir:scifact").queries


def test_a_damaged_member(host, tmp_path):
    data = bytearray(beir_zip())
    data[1000] ^= 255
    host.know(bytes(data))
    with pytest.raises(InputError, match=r"no whole zip archive .*CRC"):
        load_dataset("beir:scifact")
    assert not [name for name in cached(tmp_path) if name.startswith("scifact") and "etag" not in name]


def test_what_a_killed_unpacking_left_is_cleared(host, tmp_path):
    left = tmp_path / "cache" / "beir" / ".scifact.tmp" / "qrels"
    left.mkdir(parents=True)
    (left / "stale.tsv").write_text("half")
    assert not list((tmp_path / "cache" / "beir").glob("scifact"))
    load_dataset("beir:scifact")
    assert cached(tmp_path) == ["scifact"]
    assert not list(tmp_path.rglob("stale.tsv"))


def test_a_disk_too_small(host, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(SetupError, match=r"unpacks to [0-9,]+ bytes, .* has 5 free: set CRIBBLE_CACHE"):
        load_dataset("beir:scifact")


def test_not_there(host):
    with pytest.raises(SetupError, match=r"nq\.zip answers 404 .*: put the unpacked set at .*CRIBBLE_BEIR_URL"):
        load_dataset("beir:nq")


def test_a_server_in_trouble(host):
    host.status = 503
    with pytest.raises(SetupError, match=r"can't download .* \(HTTP 503"):
        load_dataset("beir:scifact")
    assert len(host.requests) == download._ATTEMPTS


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("CRIBBLE_BEIR_URL", "http://127.0.0.1:9/datasets")
    monkeypatch.setenv("CRIBBLE_CACHE", str(tmp_path))
    with pytest.raises(
        SetupError, match=r"Connection refused.*put the unpacked set at .*beir/scifact.*sample:stdlib needs no network"
    ):
        load_dataset("beir:scifact")


def test_a_cache_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CRIBBLE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SetupError, match=r"can't write .*set CRIBBLE_CACHE"):
        load_dataset("beir:scifact")


def test_sets_without_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CRIBBLE_CACHE", str(tmp_path))
    with pytest.raises(
        SetupError, match=r"beir:robust04 has no download, its licence forbids one: get it from https://trec"
    ):
        load_dataset("beir:robust04")


def test_a_folder_put_into_the_cache_by_hand(host, tmp_path):
    folder = tmp_path / "cache" / "beir" / "robust04" / "qrels"
    folder.mkdir(parents=True)
    (folder / "test.tsv").write_text("q\td\t1\n")
    (folder.parent / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    (folder.parent / "corpus.jsonl").write_text('{"_id": "d", "text": "y"}\n')
    assert load_dataset("beir:robust04").queries
    assert host.requests == []


def test_two_at_once_download_once(host):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(load_dataset, ["beir:scifact", "beir:scifact"]))
    assert [len(dataset.queries) for dataset in found] == [1, 1]
    assert len(host.requests) == 1


def test_a_part_of_cqadupstack_by_name(host, monkeypatch):
    data = beir_zip("cqadupstack/tex")
    host.files["cqadupstack.zip"] = data
    monkeypatch.setitem(
        beir_sets(), "cqadupstack", replace(beir_sets()["cqadupstack"], md5=hashlib.md5(data).hexdigest())
    )
    dataset = load_dataset("beir:cqadupstack/tex")
    assert dataset.id == "beir:cqadupstack/tex@test"
    assert dataset.num_documents == 2000
    assert list(load_dataset("beir:cqadupstack").parts) == ["tex"]
