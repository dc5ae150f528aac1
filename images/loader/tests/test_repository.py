# SPDX-License-Identifier: Apache-2.0
"""Safetensors repositories: what is taken out of them, what is pinned, what is told, what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loader_testing import tensors
from loader_testing.bench import Bench
from loader_testing.hub import COMMIT, IMAGE
from loader_testing.packing import RAW_WEIGHT, archive, descriptor, image, package, plain
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import MAX_FILES, MAX_MESSAGE_BYTES, Artifact, encode, parse_artifact
from nimblet_loader.manifest import FILE_PATH
from nimblet_loader.message import to_message

WANTED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def repo(bench: Bench) -> Bench:
    """Serve a safetensors repository, whose hub tells digests of the large files alone, as the real one does."""
    bench.hub.files = tensors.repository()
    bench.hub.plain = frozenset(name for name in bench.hub.files if not name.endswith(".safetensors"))
    return bench


def paths(artifact: Artifact) -> set[str]:
    return {file.path for file in artifact.files}


def refusal(bench: Bench, **source: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(**source)
    return caught.value


def test_a_repository_is_resolved_to_its_tensors_and_what_belongs_to_them(repo: Bench) -> None:
    artifact = repo.resolve()
    assert (artifact.format, artifact.commit, paths(artifact)) == ("Safetensors", COMMIT, WANTED)
    header = artifact.header
    assert (header.architecture, header.model_type, header.dtype) == ("LlamaForCausalLM", "llama", "bfloat16")
    assert (header.parameters, header.tensor_bytes) == (2 * 40 * 64 + 32 * 64, 2 * (2 * 40 * 64 + 32 * 64))
    assert (header.block_count, header.head_count, header.head_count_kv, header.key_length) == (2, 4, 2, 16)
    assert (header.chat_template, header.output_tied, header.context_length) == (True, False, 2048)


def test_every_file_is_pinned_although_the_source_tells_few_digests(repo: Bench) -> None:
    artifact = repo.resolve()
    assert artifact.digest_source == "Resolver"
    found = {file.path: file.sha256 for file in artifact.files}
    assert found == {name: hashlib.sha256(repo.hub.files[name]).hexdigest() for name in WANTED}


def test_tensors_are_not_downloaded_to_resolve(repo: Bench) -> None:
    large = {**tensors.TENSORS, "model.layers.1.mlp.up_proj.weight": ("F32", (1024, 1024))}
    repo.hub.files["model.safetensors"] = tensors.file(large)
    repo.resolve()
    (request,) = [r for r in repo.server.requests if r.path.endswith("model.safetensors")]
    assert request.headers["range"] == "bytes=0-524287"


def test_what_is_fetched_is_what_was_resolved_and_no_code(repo: Bench) -> None:
    repo.fetch(repo.resolve())
    assert {path.name for path in repo.root.iterdir()} == WANTED
    assert all((repo.root / name).read_bytes() == repo.hub.files[name] for name in WANTED)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_changed_after_resolving_is_refused(repo: Bench, name: str) -> None:
    artifact = repo.resolve()
    repo.hub.files[name] = repo.hub.files[name][:-1] + b"?"
    with pytest.raises(SourceError) as caught:
        repo.fetch(artifact)
    assert caught.value.reason is Reason.DigestMismatch
    assert not (repo.root / name).exists()


def test_parts_are_told_together(bench: Bench) -> None:
    bench.hub.files = tensors.repository([{f"t{number}": ("F16", (8, 8))} for number in range(3)])
    artifact = bench.resolve()
    assert "model.safetensors.index.json" in paths(artifact)
    assert (artifact.header.parameters, artifact.header.tensor_types) == (3 * 64, {"F16": 3 * 128})


def test_parts_may_go_by_the_whole_models_name(bench: Bench) -> None:
    parts = tensors.repository([{f"t{number}": ("F16", (8, 8))} for number in range(3)])
    bench.hub.files = {name.replace("model-0", "model.safetensors-0"): content for name, content in parts.items()}
    artifact = bench.resolve()
    assert "model.safetensors-00002-of-00003.safetensors" in paths(artifact)
    assert artifact.header.parameters == 3 * 64


def test_a_missing_part_is_named(bench: Bench) -> None:
    bench.hub.files = tensors.repository([tensors.TENSORS] * 3)
    del bench.hub.files["model-00002-of-00003.safetensors"]
    error = refusal(bench)
    assert error.reason is Reason.PartMissing
    assert "[1, 3]" in error.message


def test_forty_files_fit_a_termination_message_packed(bench: Bench) -> None:
    parts = [{f"t{number}": ("F16", (8, number + 1))} for number in range(40)]
    bench.hub.files = tensors.repository(parts)
    artifact = bench.resolve()
    assert len(artifact.files) == 45
    assert len(encode(artifact)) > MAX_MESSAGE_BYTES
    assert len(to_message(artifact)) <= MAX_MESSAGE_BYTES
    assert parse_artifact(encode(artifact).decode()) == artifact


def test_what_fits_a_message_stays_as_it_is(repo: Bench) -> None:
    artifact = repo.resolve()
    assert to_message(artifact) == encode(artifact)


def test_too_many_parts_are_refused(bench: Bench) -> None:
    bench.hub.files = tensors.repository([tensors.TENSORS] * MAX_FILES)
    assert refusal(bench).reason is Reason.TooManyFiles


@pytest.mark.parametrize(
    ("source", "format_"),
    [
        ({}, "GGUF"),
        ({"prefer": "Safetensors"}, "Safetensors"),
        ({"prefer": "Safetensors", "files": ["*.gguf"]}, "GGUF"),
        ({"prefer": "Safetensors", "quantization": "Q4_0"}, "GGUF"),
        ({"files": ["*.safetensors"]}, "Safetensors"),
    ],
)
def test_where_both_formats_are_there(bench: Bench, source: dict[str, object], format_: str) -> None:
    bench.hub.files |= tensors.repository()
    assert bench.resolve(**source).format == format_


def test_a_folder_of_a_repository_is_chosen_by_globs(bench: Bench) -> None:
    bench.hub.files = {
        f"{folder}/{name}": raw for folder in ("a", "b") for name, raw in tensors.repository().items()
    }
    assert refusal(bench).reason is Reason.QuantizationAmbiguous
    artifact = bench.resolve(files=["b/*"])
    assert paths(artifact) == {f"b/{name}" for name in WANTED}
    assert artifact.header.chat_template


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, Reason.FileNotFound),
        ("config.json", b"{", Reason.HeaderInvalid),
        ("config.json", b"[]", Reason.HeaderInvalid),
        ("config.json", b"{}", Reason.HeaderInvalid),
        ("config.json", b"[" * 100_000, Reason.HeaderInvalid),
        ("config.json", b'{"a": "' + b"x" * 2 * 2**20 + b'"}', Reason.FileTooLarge),
        ("tokenizer_config.json", b'{"chat_template": 7}', Reason.HeaderInvalid),
        ("model.safetensors", b"\xff" * 100, Reason.HeaderInvalid),
        ("model.safetensors", tensors.file()[:-1], Reason.HeaderInvalid),
    ],
)
def test_flawed_files(repo: Bench, name: str, content: bytes | None, reason: Reason) -> None:
    if content is None:
        del repo.hub.files[name]
    else:
        repo.hub.files[name] = content
    assert refusal(repo).reason is reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"auto_map": {"AutoModel": "modeling_chatglm.Model"}, "model_type": "chatglm"}, Reason.UnsafeFormat),
        ({"auto_map": {"AutoModel": "other/repo--m.Model"}, "model_type": None}, Reason.HeaderInvalid),
        ({"num_hidden_layers": 2000}, Reason.HeaderInvalid),
        ({"num_hidden_layers": -1}, Reason.HeaderInvalid),
        ({"hidden_size": "64"}, None),
        ({"hidden_size": "many"}, Reason.HeaderInvalid),
        ({"architectures": ["os.system('x')"]}, Reason.HeaderInvalid),
        ({"architectures": []}, Reason.HeaderInvalid),
        ({"max_position_embeddings": 2**70}, Reason.HeaderInvalid),
    ],
)
def test_configurations_that_are_refused(repo: Bench, config: dict[str, object], reason: Reason | None) -> None:
    repo.hub.files["config.json"] = tensors.as_json({**tensors.CONFIG, **config})
    if reason is None:
        assert repo.resolve().header.embedding_length == 64
    else:
        assert refusal(repo).reason is reason


def test_code_beside_a_type_that_servers_know_is_passed_over(repo: Bench) -> None:
    told = {**tensors.CONFIG, "model_type": "phi3", "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3"}}
    repo.hub.files["config.json"] = tensors.as_json(told)
    artifact = repo.resolve()
    assert paths(artifact) == WANTED


def test_the_users_digests_must_cover_every_file(repo: Bench) -> None:
    digests = {name: hashlib.sha256(repo.hub.files[name]).hexdigest() for name in WANTED}
    assert repo.resolve(sha256=digests).digest_source == "Spec"
    assert refusal(repo, sha256={**digests, "config.json": "0" * 64}).reason is Reason.DigestMismatch
    del digests["config.json"]
    assert refusal(repo, sha256=digests).reason is Reason.DigestRequired


def test_an_artifact_that_names_code_is_none(repo: Bench) -> None:
    document = json.loads(encode(repo.resolve()))
    document["files"][0]["path"] = "modeling.py"
    with pytest.raises(SourceError) as caught:
        parse_artifact(json.dumps(document))
    assert caught.value.reason is Reason.ConfigInvalid


def into_bucket(bench: Bench) -> str:
    return "s3://bucket/models"


def into_artifact(bench: Bench) -> str:
    layers = [
        (raw, descriptor(raw, RAW_WEIGHT, annotations={FILE_PATH: name})) for name, raw in bench.hub.files.items()
    ]
    bench.hub.packages = {"v1": package("application/vnd.cncf.model.config.v1+json", layers)}
    return f"oci://{bench.authority()}/{IMAGE}:v1"


def into_image(bench: Bench) -> str:
    entries = [entry for name, raw in bench.hub.files.items() for entry in plain(f"models/{name}", raw)]
    bench.hub.packages = {"v1": image([archive(entries)], zipped=True)}
    return f"oci://{bench.authority()}/{IMAGE}:v1"


def into_claim(bench: Bench) -> str:
    bench.claim = bench.root.parent / "claim"
    for name, raw in bench.hub.files.items():
        path = Path(bench.claim / "llm" / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return "pvc://weights/llm"


@pytest.mark.parametrize("put", [into_bucket, into_artifact, into_image, into_claim])
def test_every_kind_of_source_that_holds_folders(repo: Bench, put: Callable[[Bench], str]) -> None:
    artifact = repo.resolve(uri=put(repo))
    assert (artifact.format, paths(artifact)) == ("Safetensors", WANTED)
    assert all(file.sha256 for file in artifact.files if not file.path.endswith(".safetensors"))
    repo.fetch(artifact)
    assert {path.name for path in repo.root.iterdir()} == WANTED


def test_a_single_file_of_a_web_server_is_no_repository(repo: Bench) -> None:
    digest = hashlib.sha256(repo.hub.files["model.safetensors"]).hexdigest()
    error = refusal(repo, uri=f"{repo.base()}/cdn/model.safetensors", sha256={"model.safetensors": digest})
    assert error.reason is Reason.FileNotFound
    assert "config.json" in error.message
