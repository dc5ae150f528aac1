# SPDX-License-Identifier: Apache-2.0
"""Models in OCI registries: artifacts and images, hostile archives, the token flow, and a real registry."""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import BOUGHT, IMAGE, body, cut, endless, status
from loader_testing.packing import (
    IMAGE_CONFIG,
    INDEX,
    LAYER,
    MODEL_CONFIG,
    Package,
    archive,
    descriptor,
    image,
    model_car,
    model_pack,
    package,
    plain,
    push,
    titled,
)
from loader_testing.registry import PASSWORD, USER, serving_registry
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.policy import AllowRule

TINY = TinyModel().file()


@pytest.fixture
def uri(bench: Bench) -> str:
    return f"oci://{bench.authority()}/{IMAGE}"


def holding(bench: Bench, made: Package, tag: str = "latest") -> None:
    bench.hub.packages[tag] = made


def refusal(bench: Bench, uri: str, **source: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=uri, **source)
    return caught.value


@pytest.mark.parametrize(
    "made", [model_pack(MODEL, TINY), titled(MODEL, TINY), model_pack(f"weights/{MODEL}", TINY)]
)
def test_a_raw_layer_is_pinned_by_its_digest(bench: Bench, uri: str, made: Package) -> None:
    bench.hub.files = {MODEL: TINY}
    holding(bench, made)
    artifact = bench.resolve(uri=uri)
    (file,) = artifact.files
    assert (artifact.commit, artifact.digest_source) == (made.digest, "Source")
    assert (file.sha256, file.tag, file.size) == (bench.digest, f"sha256:{bench.digest}", len(TINY))
    bench.fetch(artifact)
    assert (bench.root / file.path).read_bytes() == TINY


@pytest.mark.parametrize("zipped", [False, True])
def test_an_images_file_is_found_in_its_layer(bench: Bench, uri: str, zipped: bool) -> None:
    made = model_car(MODEL, bench.content, zipped=zipped)
    holding(bench, made)
    artifact = bench.resolve(uri=uri)
    (file,) = artifact.files
    assert (file.path, file.sha256, artifact.digest_source) == (MODEL, bench.digest, "Source")
    assert ("+gzip@" if zipped else "+tar@") in str(file.tag)
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}
    assert [path.name for path in bench.root.iterdir()] == [MODEL]


def test_a_later_layer_hides_an_earlier_one(bench: Bench, uri: str) -> None:
    old = archive(plain(f"models/{MODEL}", TINY))
    new = archive(plain(f"models/{MODEL}", bench.content))
    holding(bench, image([old, new], zipped=False))
    assert bench.resolve(uri=uri).files[0].sha256 == bench.digest


def test_files_and_quantization_choose_among_an_images_files(bench: Bench, uri: str) -> None:
    layer = archive([*plain(f"models/{MODEL}", TINY), *plain("models/tiny-Q8_0.gguf", bench.content)])
    holding(bench, image([layer], zipped=True))
    assert refusal(bench, uri).reason is Reason.QuantizationAmbiguous
    assert bench.resolve(uri=uri, quantization="Q8_0").files[0].sha256 == bench.digest


def test_a_gzip_layer_that_breaks_off_is_read_again_to_where_it_was(bench: Bench, uri: str) -> None:
    holding(bench, model_car(MODEL, bench.content, zipped=True))
    artifact = bench.resolve(uri=uri)
    bench.hub.fail("blob", cut(20_000), cut(40_000))
    assert bench.fetch(artifact).downloaded_bytes == len(bench.content)
    assert (bench.root / MODEL).read_bytes() == bench.content


def test_a_gzip_layer_of_several_members_is_one_stream(bench: Bench, uri: str) -> None:
    layer = archive(plain(f"models/{MODEL}", bench.content))
    raw = gzip.compress(layer[:1000]) + gzip.compress(layer[1000:])
    holding(bench, package(IMAGE_CONFIG, [(raw, descriptor(raw, f"{LAYER}+gzip"))]))
    assert bench.resolve(uri=uri).files[0].sha256 == bench.digest


@pytest.mark.parametrize("zipped", [False, True])
def test_a_layer_that_is_not_what_its_digest_says_is_refused(bench: Bench, uri: str, zipped: bool) -> None:
    made = model_car(MODEL, bench.content, zipped=zipped)
    digest = max(made.blobs, key=lambda name: len(made.blobs[name]))
    raw = made.blobs[digest]
    changed = gzip.compress(gzip.decompress(raw), 9) if zipped else raw[:-1] + b"x"
    padded = changed[: len(raw)].ljust(len(raw), b"\0") if zipped else changed
    holding(bench, replace(made, blobs={**made.blobs, digest: padded}))
    assert refusal(bench, uri).reason in (Reason.DigestMismatch, Reason.UnexpectedResponse)


def test_a_layer_longer_than_told_is_refused(bench: Bench, uri: str) -> None:
    made = model_car(MODEL, bench.content, zipped=False)
    digest = max(made.blobs, key=lambda name: len(made.blobs[name]))
    holding(bench, replace(made, blobs={**made.blobs, digest: made.blobs[digest] + bytes(1024)}))
    assert refusal(bench, uri).reason is Reason.DigestMismatch


def test_a_bomb_ends_at_the_limit(bench: Bench, uri: str) -> None:
    bomb = gzip.compress(archive(plain("usr/zeros", bytes(40 * 2**20))))
    holding(bench, package(IMAGE_CONFIG, [(bomb, descriptor(bomb, f"{LAYER}+gzip"))]))
    small = bench.policy().model_copy(update={"max_file_bytes": 2**20})
    bench.policy = lambda: small  # type: ignore[method-assign] # the bench's knob, not the loader's
    assert refusal(bench, uri).reason is Reason.FileTooLarge


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (package(MODEL_CONFIG, []), Reason.UnsupportedFormat),
        (titled("model.safetensors", save({"a": np.zeros(4, np.float32)})), Reason.FileNotFound),
        (titled(f"../{MODEL}", TINY), Reason.UnsafePath),
        (
            package(
                MODEL_CONFIG,
                [(TINY, descriptor(TINY, "application/vnd.cncf.model.weight.v1.tar"))],
            ),
            Reason.UnsupportedFormat,
        ),
        (package(IMAGE_CONFIG, [(TINY, descriptor(TINY, f"{LAYER}+zstd"))]), Reason.UnsupportedFormat),
        (
            Package(b'{"layers": [{"mediaType": "x", "digest": "sha512:00", "size": 1}]}', {}),
            Reason.UnexpectedResponse,
        ),
        (Package(b"<html>", {}), Reason.UnexpectedResponse),
    ],
)
def test_manifests_without_a_model(bench: Bench, uri: str, made: Package, reason: Reason) -> None:
    holding(bench, made)
    assert refusal(bench, uri).reason is reason


def test_an_endless_manifest_is_cut_off(bench: Bench, uri: str) -> None:
    bench.attempts = 1
    bench.hub.fail("index", endless(b" " * 2**20))
    assert refusal(bench, uri).reason is Reason.UnexpectedResponse


def index(*items: tuple[Package, str]) -> Package:
    listed = [
        descriptor(made.manifest, "application/vnd.oci.image.manifest.v1+json", platform=platform(name))
        for made, name in items
    ]
    return Package(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode(), {})


def platform(name: str) -> dict[str, str]:
    system, _, machine = name.partition("/")
    return {"os": system, "architecture": machine}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("linux/amd64", "linux/arm64"), True),
        (("linux/s390x",), True),
        (("linux/s390x", "unknown/unknown"), True),
        (("linux/s390x", "windows/amd64"), False),
    ],
)
def test_an_index_leads_to_this_machines_image(
    bench: Bench, uri: str, names: tuple[str, ...], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    mine, other = model_pack(MODEL, bench.content), model_pack(MODEL, TINY)
    whole = index(*((mine if at == 0 else other, name) for at, name in enumerate(names)))
    bench.hub.packages = {"latest": whole, "mine": mine, "other": other}
    if not found:
        assert "windows/amd64" in refusal(bench, uri).message
        return
    artifact = bench.resolve(uri=f"{uri}@{whole.digest}")
    assert artifact.commit == mine.digest
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}


def test_a_digest_is_held_against_what_the_registry_sends(bench: Bench, uri: str) -> None:
    made = model_pack(MODEL, bench.content)
    holding(bench, made)
    bench.hub.fail("index", body([model_pack(MODEL, TINY).manifest]))
    assert refusal(bench, f"{uri}@{made.digest}").reason is Reason.DigestMismatch


def test_a_tag_that_moved_does_not_move_a_pinned_model(bench: Bench, uri: str) -> None:
    made = model_pack(MODEL, bench.content)
    bench.hub.packages = {"v1": made}
    artifact = bench.resolve(uri=f"{uri}:v1")
    bench.hub.packages = {"v1": model_pack(MODEL, TINY), "old": made}
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}


@pytest.mark.parametrize("part", ["layer", "manifest", "form"])
def test_an_artifact_that_names_what_the_source_does_not_list_is_refused(
    bench: Bench, uri: str, part: str
) -> None:
    made, foreign = model_pack(MODEL, bench.content), model_pack(MODEL, TINY)
    bench.hub.packages = {"latest": made, "foreign": foreign}
    artifact = bench.resolve(uri=f"{uri}@{made.digest}")
    (file,) = artifact.files
    tags = {"layer": f"sha256:{'0' * 64}", "manifest": file.tag, "form": "sha256:x"}
    update: dict[str, object] = {"files": (file.model_copy(update={"tag": tags[part]}),)}
    if part == "manifest":
        update["commit"] = foreign.digest
    with pytest.raises(SourceError) as caught:
        bench.fetch(artifact.model_copy(update=update))
    assert caught.value.reason in (Reason.SourceChanged, Reason.ConfigInvalid)


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def test_a_token_is_bought_for_pulling_from_this_repository_only(bench: Bench, uri: str) -> None:
    bench.hub.realm = f"{bench.base()}/token"
    holding(bench, model_pack(MODEL, bench.content))
    bench.fetch(bench.resolve(uri=uri))
    asked = [request.target for request in bench.server.requests if request.path == "/token"]
    assert set(asked) == {"/token?service=tests&scope=repository%3Aacme%2Fmodel%3Apull"}


def test_a_login_goes_to_the_realm_and_the_token_to_the_registry(bench: Bench, uri: str) -> None:
    bench.hub.realm, bench.hub.login = f"{bench.base()}/token", basic("me", "canary")
    holding(bench, model_pack(MODEL, bench.content))
    assert refusal(bench, uri).reason is Reason.AccessDenied
    bench.login = ("me", "canary")
    bench.server.requests.clear()
    bench.hub.fail("blob", status(302, Location=f"{bench.base('cdn.test')}/cdn/{MODEL}"))
    assert bench.resolve(uri=uri)
    sent = {
        (request.path.split("/")[1], request.headers.get("authorization")) for request in bench.server.requests
    }
    assert sent == {("token", basic("me", "canary")), ("v2", None), ("v2", f"Bearer {BOUGHT}"), ("cdn", None)}


def test_a_wrong_login_is_told_from_a_missing_one(bench: Bench, uri: str) -> None:
    bench.hub.realm, bench.hub.login = f"{bench.base()}/token", basic("me", "right")
    bench.login = ("me", "wrong")
    error = refusal(bench, uri)
    assert error.reason is Reason.TokenInvalid
    assert "wrong" not in error.message


def test_no_login_is_sent_for_a_registry_that_the_secret_does_not_name(bench: Bench) -> None:
    """A strange registry may name a realm that the Secret trusts: it must not get a token bought there."""
    bench.registries = (bench.authority("cdn.test"),)
    bench.hub.realm, bench.hub.login = f"{bench.base()}/token", basic("me", "canary")
    bench.login = ("me", "canary")
    holding(bench, model_pack(MODEL, bench.content))
    assert refusal(bench, f"oci://{bench.authority('cdn.test')}/{IMAGE}").reason is Reason.AccessDenied
    assert all("authorization" not in request.headers for request in bench.server.requests)


def test_a_login_that_was_not_sent_is_not_called_wrong(bench: Bench, uri: str) -> None:
    bench.hub.realm, bench.hub.login = f"{bench.base('cdn.test')}/token", basic("me", "canary")
    bench.login = ("me", "canary")
    error = refusal(bench, uri)
    assert (error.reason, "No login was sent" in error.message) == (Reason.AccessDenied, True)


def test_a_realm_off_the_allow_list_is_refused(bench: Bench, uri: str) -> None:
    bench.hub.realm = "http://unlisted.test/token"
    assert refusal(bench, uri).reason is Reason.HostNotAllowed


def test_a_token_that_ran_out_is_bought_anew(bench: Bench, uri: str) -> None:
    bench.hub.realm = f"{bench.base()}/token"
    holding(bench, model_pack(MODEL, bench.content))
    artifact = bench.resolve(uri=uri)
    challenge = {"WWW_Authenticate": f'Bearer realm="{bench.hub.realm}"'}
    bench.hub.fail("blob", cut(100_000), status(401, **challenge))
    bench.server.requests.clear()
    bench.fetch(artifact)
    assert bench.server.paths().count("/token") == 2


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"token": "two words"}', b'{"token": 5}'])
def test_a_realm_that_sells_nothing(bench: Bench, uri: str, answer: bytes) -> None:
    bench.hub.realm = f"{bench.base()}/token"
    bench.hub.fail("token", *[body([answer])] * 3)
    assert refusal(bench, uri).reason is Reason.UnexpectedResponse


@pytest.mark.parametrize(
    "name",
    [
        "oci://",
        "oci://host",
        "oci://host/UPPER",
        "oci://host/a/../b",
        "oci://host/a:b:c",
        "oci://host/a@sha256:00",
        "oci://user@host/a",
        "oci://host/a?x=y",
    ],
)
def test_names_that_are_none(bench: Bench, name: str) -> None:
    assert refusal(bench, name).reason is Reason.ConfigInvalid


def test_https_is_spoken_unless_the_administrator_names_the_registry(bench: Bench) -> None:
    bench.rules = (AllowRule(host="hub.test", cidr="127.0.0.0/8"),)
    assert refusal(bench, f"oci://hub.test:1/{IMAGE}").reason is Reason.SourceUnavailable
    assert refusal(bench, f"oci://{bench.authority()}/{IMAGE}").reason is Reason.HostNotAllowed


@pytest.fixture(scope="module", params=[False, True], ids=["open", "login"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry process that holds one model as artifact, plain image and compressed image."""
    with serving_registry(tmp_path_factory.mktemp("registry"), login=request.param) as base:
        login = (USER, PASSWORD) if request.param else None
        with httpx.Client(base_url=base, auth=login, timeout=60) as client:
            push(client, "acme/model", "raw", model_pack(MODEL, CONTENT))
            push(client, "acme/model", "tar", model_car(MODEL, CONTENT, zipped=False))
            push(client, "acme/model", "gzip", model_car(MODEL, CONTENT, zipped=True))
        yield base


CONTENT = TinyModel(tensors=(("token_embd.weight", (64, 4000)),)).file()


@pytest.mark.timeout(600)  # the first use builds the registry
@pytest.mark.parametrize("tag", ["raw", "tar", "gzip"])
def test_a_real_registry(bench: Bench, registry: str, tag: str, request: pytest.FixtureRequest) -> None:
    host = f"hub.test:{httpx.URL(registry).port}"
    bench.registries = (host,)
    if "login" in request.node.name:
        assert refusal(bench, f"oci://{host}/acme/model:{tag}").reason is Reason.AccessDenied
        bench.login = (USER, PASSWORD)
    artifact = bench.resolve(uri=f"oci://{host}/acme/model:{tag}")
    half = len(CONTENT) // 2
    bench.partial.write_bytes(CONTENT[:half])
    report = bench.fetch(artifact)
    assert report.downloaded_bytes == len(CONTENT) - half
    assert report.sha256 == {MODEL: bench.digest}
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=f"oci://{host}/acme/model:absent")
    assert caught.value.reason is Reason.RepositoryNotFound
