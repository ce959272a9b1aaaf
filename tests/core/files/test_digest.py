"""A file has the digest of its bytes, whatever the blocks that it is read in."""

import hashlib

import pytest

from ptycho.core.files import digest


@pytest.mark.parametrize("size", [0, 1, 4, 9])
def test_the_digest_is_that_of_the_bytes(size, tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "_BLOCK_BYTES", 4)
    content = bytes(range(size))
    (tmp_path / "a").write_bytes(content)
    assert digest.file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest.file_digest(tmp_path / "a")
