# SPDX-License-Identifier: Apache-2.0
"""An image's layer read as it streams by: every form of names, hostile archives, headers that lie."""

import tarfile

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import IMAGE
from loader_testing.packing import archive, image, link, plain
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.tarlayer import members

TINY = TinyModel().file()


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    return info


def sparse(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return info


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (archive([link(f"models/{MODEL}", "/etc/passwd")]), Reason.UnsafePath),
        (archive([link(f"models/{MODEL}", "models/other", hard=True)]), Reason.UnsafePath),
        (archive([link("models", "/etc")]), Reason.UnsafePath),
        (archive([device(f"models/{MODEL}")]), Reason.UnsafePath),
        (archive([sparse(f"models/{MODEL}")]), Reason.UnsafePath),
        (archive(plain(f"/models/{MODEL}", TINY)), Reason.UnsafePath),
        (archive(plain(f"models/../../{MODEL}", TINY)), Reason.UnsafePath),
        (archive(plain(f"models/a\\b/{MODEL}", TINY)), Reason.UnsafePath),
        (archive(plain(f"models/.wh.{MODEL}", b"")), Reason.UnsupportedFormat),
        (archive(plain(".wh.models", b"")), Reason.UnsupportedFormat),
        (archive(plain(f"../models/{MODEL}", TINY)), Reason.UnsupportedFormat),
        (archive(plain(f"else/{MODEL}", TINY)), Reason.UnsupportedFormat),
        (archive(plain(f"models/{MODEL}", TINY))[:2000], Reason.UnexpectedResponse),
        (b"not a tar archive at all".ljust(1024, b"!"), Reason.UnexpectedResponse),
    ],
)
def test_archives_that_are_hostile_or_none(bench: Bench, layer: bytes, reason: Reason) -> None:
    bench.hub.packages["latest"] = image([layer], zipped=False)
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=f"oci://{bench.authority()}/{IMAGE}")
    assert caught.value.reason is reason


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [20, 99, 140, 190])
def test_names_of_any_length_in_every_form(form: int, length: int) -> None:
    name = f"{'n' * (length // 2)}/{'m' * (length // 2)}"
    raw = archive(plain(f"models/{name}", b"content"), form=form)
    (found,) = members(iter([raw]), folder="models", shown="x", limit=10**9)
    assert found.path == name
    assert raw[found.offset : found.offset + found.size] == b"content"


def test_an_archive_may_come_in_any_pieces() -> None:
    raw = archive([*plain("models/one", b"1" * 1000), *plain("models/two", b"2" * 3000)])
    whole = members(iter([raw]), folder="models", shown="x", limit=10**9)
    for size in (1, 7, 511, 513):
        pieces = (raw[start : start + size] for start in range(0, len(raw), size))
        assert members(pieces, folder="models", shown="x", limit=10**9) == whole


def flawed(**changes: bytes) -> bytes:
    """Return a header block with fields overwritten and its checksum put right."""
    places = {"size": (124, 12), "type": (156, 1)}
    block = bytearray(tarfile.TarInfo("models/m.gguf").tobuf(tarfile.USTAR_FORMAT))
    for field, value in changes.items():
        start, length = places[field]
        block[start : start + length] = value.ljust(length, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (flawed(size=b"\x80" + b"\xff" * 11), Reason.UnexpectedResponse),
        (flawed(size=b"99999999999"), Reason.UnexpectedResponse),
        (flawed(size=b"77777777777", type=b"x"), Reason.UnexpectedResponse),
        (flawed(size=b"77777777777"), Reason.FileTooLarge),
        (flawed(size=b"12", type=b"x") + b"12 path=abc\n".ljust(512, b"\0"), Reason.UnexpectedResponse),
        (flawed(size=b"14", type=b"x") + b"99 path=abc\n".ljust(512, b"\0"), Reason.UnexpectedResponse),
        (flawed(size=b"14", type=b"x") + b"0 path=abcde\n".ljust(512, b"\0"), Reason.UnexpectedResponse),
    ],
)
def test_headers_that_lie_cost_nothing(raw: bytes, reason: Reason) -> None:
    with pytest.raises(SourceError) as caught:
        members(iter([raw]), folder="models", shown="x", limit=10**6)
    assert caught.value.reason is reason
