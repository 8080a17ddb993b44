"""What tests of files have in common."""

import hashlib
import pathlib

import pytest

from jaxae.data import download


@pytest.fixture
def trusted(monkeypatch):
    """Makes the files in a folder those that a data set should have, whatever is in them."""

    def trust(name: str, folder: pathlib.Path) -> None:
        found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        remote = download.REMOTE[name]
        changed = remote._replace(
            files=remote.files | {k: v for k, v in found.items() if k in remote.files},
            plain=remote.plain | {k: v for k, v in found.items() if k in remote.plain},
        )
        monkeypatch.setitem(download.REMOTE, name, changed)

    return trust
