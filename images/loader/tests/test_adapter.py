# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters: what their headers tell, what is none, and that a model's source is told from an adapter's."""

import hashlib
import json
import struct
from pathlib import Path

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.pod import Pod
from loader_testing.sealing import seal_files, seal_model
from loader_testing.tensors import Shapes, as_json, file, repository
from loader_testing.tiny import Pair, TinyModel, string
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.age import parse_identities
from nimblet_loader.cache import RECORD
from nimblet_loader.contract import Artifact, parse_artifact, parse_source
from nimblet_loader.message import to_message
from nimblet_loader.sealed import MANIFEST
from nimblet_loader.trust import check_artifact

WHOLE = (
    ("blk.3.attn_q.weight.lora_a", (64, 4)),
    ("blk.3.attn_q.weight.lora_b", (4, 64)),
    ("blk.5.ffn_down.weight.lora_a", (128, 8)),
    ("blk.5.ffn_down.weight.lora_b", (8, 64)),
)
CONFIG: dict[str, object] = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "base_model_name_or_path": "org/base",
    "target_modules": ["q_proj", "down_proj"],
    "modules_to_save": None,
}
PREFIX = "base_model.model.model.layers"
TENSORS: Shapes = {
    f"{PREFIX}.1.self_attn.q_proj.lora_A.weight": ("BF16", (8, 64)),
    f"{PREFIX}.1.self_attn.q_proj.lora_B.weight": ("BF16", (64, 8)),
    f"{PREFIX}.0.mlp.down_proj.lora_A.weight": ("BF16", (8, 128)),
    f"{PREFIX}.0.mlp.down_proj.lora_B.weight": ("BF16", (64, 8)),
}


def number(key: str, value: float) -> Pair:
    """Return a metadata pair with a float of 32 bits."""
    return key, struct.pack("<If", 6, value)


def lora(
    *, kind: str = "adapter", form: str = "lora", tensors: tuple[tuple[str, tuple[int, ...]], ...] = WHOLE
) -> bytes:
    pairs = (string("general.architecture", "llama"), string("general.type", kind), string("adapter.type", form))
    return TinyModel(pairs=(*pairs, number("adapter.lora.alpha", 16.0)), tensors=tensors).file()


def peft(tensors: Shapes = TENSORS, **config: object) -> dict[str, bytes]:
    return {"adapter_config.json": as_json({**CONFIG, **config}), "adapter_model.safetensors": file(tensors)}


def resolve(bench: Bench, held: dict[str, bytes], **source: object) -> Artifact:
    bench.hub.files = held
    return bench.resolve(adapter=True, **source)


def refusal(bench: Bench, held: dict[str, bytes]) -> SourceError:
    with pytest.raises(SourceError) as caught:
        resolve(bench, held)
    return caught.value


def test_the_header_of_a_gguf_adapter_tells_what_it_fits(bench: Bench) -> None:
    artifact = resolve(bench, {"a.gguf": lora()})
    facts = artifact.header.adapter
    assert facts is not None
    assert (facts.rank, facts.alpha, facts.layers) == (8, 16.0, 6)
    assert (facts.embedding_length, facts.feed_forward_length) == (64, 128)
    assert facts.targets == ("attn_q", "ffn_down")
    assert (artifact.format, artifact.header.architecture) == ("GGUF", "llama")
    assert artifact.header.tensor_bytes == 4 * (64 * 4 * 2 + 128 * 8 + 8 * 64)
    assert parse_artifact(to_message(artifact).decode()) == artifact


def test_what_peft_writes_is_two_files(bench: Bench) -> None:
    artifact = resolve(bench, {**repository(), **peft()})
    facts = artifact.header.adapter
    assert facts is not None
    assert [entry.path for entry in artifact.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert (facts.rank, facts.alpha, facts.layers, facts.base_model) == (8, 16.0, 2, "org/base")
    assert (facts.embedding_length, facts.feed_forward_length) == (64, 128)
    assert all(entry.sha256 for entry in artifact.files)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (TinyModel().file(), Reason.NotAnAdapter),
        (lora(kind="model"), Reason.NotAnAdapter),
        (lora(form="control_vector"), Reason.NotAnAdapter),
        (lora(tensors=(("blk.0.attn_q.weight", (64, 64)),)), Reason.NotAnAdapter),
        (lora(tensors=()), Reason.NotAnAdapter),
        (lora(tensors=WHOLE[:1]), Reason.HeaderInvalid),
        (lora(tensors=(WHOLE[0], ("blk.3.attn_q.weight.lora_b", (5, 64)))), Reason.HeaderInvalid),
        (
            lora(
                tensors=(*WHOLE, ("blk.4.attn_k.weight.lora_a", (32, 4)), ("blk.4.attn_k.weight.lora_b", (4, 8)))
            ),
            Reason.HeaderInvalid,
        ),
    ],
)
def test_gguf_files_that_are_no_sound_adapter(bench: Bench, content: bytes, reason: Reason) -> None:
    assert refusal(bench, {"a.gguf": content}).reason is reason


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (repository(), Reason.NotAnAdapter),
        (peft(peft_type="IA3"), Reason.NotAnAdapter),
        (peft({"lm_head.weight": ("BF16", (4, 4))}), Reason.NotAnAdapter),
        (peft(use_dora=True), Reason.UnsupportedFormat),
        (peft(modules_to_save=["lm_head"]), Reason.UnsupportedFormat),
        (peft(bias="all"), Reason.UnsupportedFormat),
        (peft(r=0), Reason.HeaderInvalid),
        ({"adapter_model.safetensors": file(TENSORS)}, Reason.FileNotFound),
        ({"adapter_model.bin": b"pickle", "adapter_config.json": b"{}"}, Reason.UnsafeFormat),
        ({f"{name}/{key}": value for name in "ab" for key, value in peft().items()}, Reason.QuantizationAmbiguous),
    ],
)
def test_repositories_that_hold_no_sound_adapter(bench: Bench, files: dict[str, bytes], reason: Reason) -> None:
    assert refusal(bench, files).reason is reason


def test_one_folder_of_several_is_chosen_by_files(bench: Bench) -> None:
    files = {f"{name}/{key}": value for name in "ab" for key, value in peft().items()}
    artifact = resolve(bench, files, files=["b/*"])
    assert {entry.path for entry in artifact.files} == {"b/adapter_config.json", "b/adapter_model.safetensors"}


def test_an_adapter_is_no_model(bench: Bench) -> None:
    bench.hub.files = {MODEL: lora()}
    with pytest.raises(SourceError) as caught:
        bench.resolve()
    assert caught.value.reason is Reason.UnsupportedFormat


def test_an_artifact_of_the_other_kind_is_refused(bench: Bench) -> None:
    artifact = resolve(bench, {"a.gguf": lora()})
    source = {"version": 1, "uri": artifact.uri}
    check_artifact(parse_source(json.dumps({**source, "adapter": True})), artifact)
    with pytest.raises(SourceError) as caught:
        check_artifact(parse_source(json.dumps(source)), artifact)
    assert caught.value.reason is Reason.ConfigInvalid


def test_an_adapter_in_a_cache_is_verified_and_healed_beside_its_model(bench: Bench, tmp_path: Path) -> None:
    """What another pod of the namespace may do to a claim, record and all."""
    pod, own, other = Pod(bench, tmp_path), "a" * 32, "b" * 32
    model = bench.artifact()
    bench.hub.files = {MODEL: bench.content, "a.gguf": lora()}
    adapter = bench.resolve(adapter=True, files=["a.gguf"])

    def run(command: str, folder: str, uid: str = "uid-1") -> tuple[int, str]:
        pod.write(artifact=model if folder == own else adapter)
        keep = [f"--keep={own}"] if command == "fill" else []
        kind = {} if folder == own else {"adapter": True}
        return pod.run(command, f"--folder={folder}", *keep, uid=uid, **kind)

    assert [run("fill", folder)[0] for folder in (own, other)] == [0, 0]
    lying, record = bench.root / other / "a.gguf", bench.root / other / RECORD
    changed = lying.read_bytes()[:-1] + b"\x01"
    lying.write_bytes(changed)
    sound, false = (hashlib.sha256(content).hexdigest() for content in (lora(), changed))
    assert sound in record.read_text()
    record.write_text(record.read_text().replace(sound, false))
    code, log = run("verify", other)
    assert code == Reason.CacheCorrupted.exit_code, log
    assert pod.failure()[0] == "CacheCorrupted"

    code, log = run("fill", other, "uid-2")
    assert code == 0, log
    assert lying.read_bytes() == lora()
    assert [run("verify", folder)[0] for folder in (own, other)] == [0, 0]


@pytest.mark.parametrize("held", [{"a.gguf": lora()}, peft()], ids=["GGUF", "PEFT"])
def test_an_encrypted_adapter_is_resolved_without_a_key_and_decrypted_with_it(
    bench: Bench, tmp_path: Path, held: dict[str, bytes]
) -> None:
    plain = resolve(bench, held)
    sealed = seal_files(held, tmp_path, adapter=True)
    artifact = resolve(bench, sealed.files, **sealed.source())
    assert artifact.header == plain.header
    assert artifact.header.adapter is not None
    check_artifact(bench.source(adapter=True, **sealed.source()), artifact)
    bench.fetch(artifact, identities=parse_identities(sealed.key.secret))
    assert {path.name: path.read_bytes() for path in bench.root.iterdir()} == held


def test_plaintext_where_an_adapter_must_be_encrypted_is_refused(bench: Bench, tmp_path: Path) -> None:
    held = {"a.gguf": lora()}
    sealed = seal_files(held, tmp_path, adapter=True)
    with pytest.raises(SourceError) as caught:
        resolve(bench, {**held, MANIFEST: sealed.files[MANIFEST]}, **sealed.source())
    assert caught.value.reason is Reason.NotEncrypted
    plain = resolve(bench, held)
    with pytest.raises(SourceError) as caught:
        check_artifact(bench.source(adapter=True, **sealed.source()), plain)
    assert caught.value.reason is Reason.NotEncrypted


def test_an_encrypted_model_is_no_adapter_nor_the_other_way_around(bench: Bench, tmp_path: Path) -> None:
    model = seal_model(bench.content, tmp_path / "model")
    with pytest.raises(SourceError) as caught:
        resolve(bench, model.files, **model.source())
    assert caught.value.reason is Reason.NotAnAdapter
    adapter = seal_files({"a.gguf": lora()}, tmp_path / "adapter", adapter=True)
    bench.hub.files = adapter.files
    with pytest.raises(SourceError) as caught:
        bench.resolve(**adapter.source())
    assert caught.value.reason is Reason.UnsupportedFormat


def test_no_encrypted_adapter_goes_to_a_cache(bench: Bench, tmp_path: Path) -> None:
    sealed, pod = seal_files({"a.gguf": lora()}, tmp_path, adapter=True), Pod(bench, tmp_path)
    pod.write(artifact=resolve(bench, sealed.files, **sealed.source()))
    for command in ("fill", "verify"):
        code, log = pod.run(command, f"--folder={'b' * 32}", adapter=True, **sealed.source())
        assert code == Reason.ConfigInvalid.exit_code, log
    assert not list(bench.root.iterdir())


def test_an_encrypted_model_tells_what_it_can_draft_for_where_that_is_asked(bench: Bench, tmp_path: Path) -> None:
    plain = bench.resolve(vocabulary=True)
    sealed = seal_model(bench.content, tmp_path)
    bench.hub.files = sealed.files
    asked = bench.resolve(vocabulary=True, **sealed.source())
    assert asked.header == plain.header
    assert bench.resolve(**sealed.source()).header.vocabulary is None
