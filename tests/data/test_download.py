"""Downloads, against a server on this machine: whole and checked, or not at all."""

import gzip
import hashlib
import http.server
import pathlib
import socket
import threading

import numpy as np
import pytest

from jaxae.data import DataError, download, load
from jaxae.data.download import fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/good: the file. /cut: promises all of it, sends half. /gone: 404."""

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def _directly(monkeypatch):
    """A machine behind a proxy still asks this server itself."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def server():
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def nobody():
    """An address at which nothing listens."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unheard.getsockname()[1]}"


def test_a_good_file_arrives_under_its_name(server, tmp_path):
    path = tmp_path / "new" / "file.gz"
    assert fetch(f"{server}/good", SHA256, path) == path
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("page", "sha256", "match"),
    [
        ("good", "0" * 64, "hash"),
        ("cut", SHA256, "broken|incomplete|IncompleteRead"),
        ("gone", SHA256, "404"),
    ],
)
def test_nothing_is_left_of_a_bad_download_and_a_good_one_follows(
    server, tmp_path, page, sha256, match
):
    path = tmp_path / "file.gz"
    with pytest.raises(DataError, match=rf"file\.gz could not be downloaded.*({match})"):
        fetch(f"{server}/{page}", sha256, path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(f"{server}/good", SHA256, path).read_bytes() == CONTENT


def test_nothing_listens(nobody, server, tmp_path):
    with pytest.raises(DataError, match=r"could not be downloaded.*(refused|establish)"):
        fetch(f"{nobody}/good", SHA256, tmp_path / "file.gz")
    assert list(tmp_path.iterdir()) == []
    assert fetch(f"{server}/good", SHA256, tmp_path / "file.gz").read_bytes() == CONTENT


def test_without_a_network_three_remedies_are_named(nobody, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXAE_DATA_DIR", raising=False)
    remote = download.REMOTE["kmnist"]._replace(base=nobody + "/")
    monkeypatch.setitem(download.REMOTE, "kmnist", remote)
    with pytest.raises(DataError) as caught:
        load("kmnist")
    message = str(caught.value)
    for part in (
        f"by hand into {tmp_path}/cache/kmnist",
        "JAXAE_DATA_DIR=<folder>",
        *remote.files,
        "pip install tensorflow-cpu",
        "--data tfds:kmnist",
        "--data digits",
    ):
        assert part in message
    with pytest.raises(DataError, match=f"by hand into {tmp_path}/mine/kmnist or"):
        load("kmnist", data_dir=tmp_path / "mine")


def test_a_downloaded_set_is_found_in_the_cache(server, tmp_path, monkeypatch):
    """A set of one image per file, served under its names; the second time without the server."""
    images = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 77]))
    labels = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 1, 5]))
    folder = tmp_path / "cache" / "kmnist"
    remote = download.REMOTE["kmnist"]
    served = {name: images if "images" in name else labels for name in remote.files}
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXAE_DATA_DIR", raising=False)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in served.items()}
    monkeypatch.setitem(download.REMOTE, "kmnist", remote._replace(base=f"{server}/", files=hashes))
    monkeypatch.setattr(
        Handler,
        "do_GET",
        lambda self: (
            self.send_response(200),
            self.end_headers(),
            self.wfile.write(served[self.path[1:]]),
        ),
    )
    assert load("kmnist").train.arrays["image"].item() == 77
    assert {path.name for path in folder.iterdir()} == set(served)
    monkeypatch.delattr(Handler, "do_GET")
    assert load("kmnist").class_names == ("5",)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(labels)
    with pytest.raises(DataError, match=r"kmnist/train-images-idx3-ubyte.gz is damaged"):
        load("kmnist")


@pytest.mark.mnist
def test_checksums_are_those_of_the_real_files(data_dir):
    for name, sha256 in download.REMOTE["mnist"].files.items():
        path = data_dir / "mnist" / name
        if path.is_file():
            content = path.read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha256
            plain = download.REMOTE["mnist"].plain[name.removesuffix(".gz")]
            assert hashlib.sha256(gzip.decompress(content)).hexdigest() == plain


@pytest.mark.mnist
@pytest.mark.parametrize("zipped", [True, False])
def test_one_changed_pixel_of_mnist_is_noticed(data_dir, tmp_path, monkeypatch, zipped):
    """In a file that is a whole idx file otherwise, wherever it lies."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    files = [name for name in download.REMOTE["mnist"].files if name.startswith("t10k")]
    for name in files:
        content = (data_dir / "mnist" / name).read_bytes()
        (folder / name).write_bytes(content)
    pixels = bytearray(gzip.decompress((folder / files[0]).read_bytes()))
    pixels[1000] ^= 255
    (folder / files[0]).unlink()
    changed = folder / (files[0] if zipped else files[0].removesuffix(".gz"))
    changed.write_bytes(gzip.compress(pixels) if zipped else pixels)
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path))
    found = hashlib.sha256(changed.read_bytes()).hexdigest()
    for data_dir in (tmp_path, None):  # put there by hand, or in the cache
        assert download.find("mnist", files[1], data_dir) == folder / files[1]
        with pytest.raises(DataError, match=rf"{changed} is damaged.*{found}, expected.*Delete"):
            download.find("mnist", files[0], data_dir)


def test_checksums_are_those_of_tensorflow_datasets():
    import tensorflow_datasets as tfds

    root = pathlib.Path(tfds.__file__).parent
    known = {}
    listed = [root / "url_checksums" / f"{name}.txt" for name in download.REMOTE]
    there = {name: remote for name, remote in download.REMOTE.items() if remote.in_tfds}
    listed += root.glob("*/svhn*/checksums.tsv")
    for path in listed:
        for line in path.read_text().splitlines() if path.exists() else []:
            url, _, sha256, *_ = line.split("\t")
            known[url] = sha256
    for remote in there.values():
        for file, sha256 in remote.files.items():
            assert known[remote.base + file] == sha256
    assert download.REMOTE.keys() - there.keys() == {"newsgroups"}


def test_checksums_are_those_of_scikit_learn():
    from sklearn.datasets._twenty_newsgroups import ARCHIVE

    remote = download.REMOTE["newsgroups"]
    assert remote.files == {ARCHIVE.filename: ARCHIVE.checksum}
    assert remote.base + remote.paths[ARCHIVE.filename] == ARCHIVE.url
