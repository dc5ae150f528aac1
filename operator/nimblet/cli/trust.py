# SPDX-License-Identifier: Apache-2.0
"""`nimblet digest` and `nimblet sign`: make what spec.integrity checks, from a local folder or a resolved model.

The library that signs is an extra of this package (`nimblet[sign]`): the operator itself never signs. Nothing here
reads a private key into an output.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import yaml

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.cli.errors import CommandError
from nimblet.plan.integrity import MAX_FILES, MAX_TEXT_BYTES, manifest_text

if TYPE_CHECKING:
    from model_signing._signing.sign_sigstore_pb import Signer

SIGNATURE_FILE: Final = "model.sig"
MANIFEST_KEY: Final = "sha256sums"
_READ_BYTES: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """With what is signed: a private key, and the certificate that it belongs to, with those that vouch for it."""

    key: Path
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()


def add_digest(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet digest`."""
    _add_files(command)
    command.add_argument(
        "-o",
        "--output",
        choices=("sha256sum", "json", "spec", "configmap"),
        default="sha256sum",
        help="lines as sha256sum prints them (default), a JSON object, spec.integrity, or a ConfigMap for "
        "integrity.manifestRef",
    )
    command.add_argument("--name", default="model-digests", help="name of the ConfigMap; default: model-digests")


def add_sign(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet sign`."""
    _add_files(command)
    command.add_argument(
        "--key", type=Path, required=True, metavar="PEM", help="private key, not encrypted: P-256, P-384 or P-521"
    )
    command.add_argument("--certificate", type=Path, metavar="PEM", help="the key's certificate, to sign by that")
    command.add_argument(
        "--chain", type=Path, action="append", default=[], metavar="PEM", help="an intermediate; once for each"
    )
    command.add_argument(
        "--out", type=Path, default=Path(SIGNATURE_FILE), metavar="FILE", help=f"default: {SIGNATURE_FILE}"
    )
    command.add_argument("--force", action="store_true", help="replace the file that is there")
    command.add_argument(
        "-o",
        "--output",
        choices=("text", "configmap"),
        default="text",
        help="write FILE and tell what was signed (default), or print a ConfigMap for "
        "integrity.signature.bundleRef instead",
    )
    command.add_argument(
        "--name", default="model-signature", help="name of the ConfigMap; default: model-signature"
    )


def run_digest(arguments: argparse.Namespace, resolved: Callable[[], CompactModel]) -> str:
    """Return what `nimblet digest` prints; `resolved` reads the model that --model names."""
    digests = _chosen(arguments, resolved)
    return digest_text(digests, output=arguments.output, name=arguments.name, namespace=arguments.namespace)


def run_sign(arguments: argparse.Namespace, resolved: Callable[[], CompactModel]) -> str:
    """Write the signature, or return it as a ConfigMap."""
    key = SigningKey(key=arguments.key, certificate=arguments.certificate, chain=tuple(arguments.chain))
    digests = _chosen(arguments, resolved)
    signature = sign(digests, key)
    if arguments.output == "configmap":
        return config_map(arguments.name, arguments.namespace, {SIGNATURE_FILE: signature})
    write_signature(signature, arguments.out, force=arguments.force)
    return f"{manifest_text(digests)}{arguments.out} is the signature of these files."


def _chosen(arguments: argparse.Namespace, resolved: Callable[[], CompactModel]) -> dict[str, str]:
    if (arguments.path is None) == (arguments.model is None):
        raise CommandError("expected a PATH or --model NAME, and not both; see --help")
    return local_digests(arguments.path) if arguments.path is not None else resolved_digests(resolved())


def _add_files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "path",
        type=Path,
        nargs="?",
        help="file, or folder with all files of the source; hidden ones and model.sig are left out",
    )
    command.add_argument(
        "--model",
        metavar="NAME",
        help="instead of PATH, the files of a CompactModel as its source was resolved: look at them first, since "
        "this takes them as they are",
    )
    command.add_argument("-n", "--namespace", help="of --model (default: default), and of the ConfigMap")


def local_digests(path: Path) -> dict[str, str]:
    """Return SHA-256 by name of a file, or of the files below a folder."""
    if path.is_symlink() or not path.exists():
        raise CommandError(
            f"expected a file or folder {path}, found {'a link' if path.is_symlink() else 'nothing'}"
        )
    files = {path.name: path} if path.is_file() else {str(it.relative_to(path)): it for it in _below(path)}
    if not files:
        raise CommandError(f"expected files in {path}, found none that are not hidden")
    if len(files) > MAX_FILES:
        raise CommandError(
            f"expected at most {MAX_FILES} files in {path}, found {len(files)}; name a smaller folder"
        )
    return {name: _digest(file) for name, file in sorted(files.items())}


def resolved_digests(model: CompactModel) -> dict[str, str]:
    """Return SHA-256 by name of the files that a model's source was resolved to."""
    artifact = model.status.artifact
    if artifact is None or not artifact.files:
        raise CommandError(
            f"expected a resolved CompactModel, found {model.name} not resolved; see `nimblet status`"
        )
    unknown = [file.path for file in artifact.files if not file.sha256]
    if unknown:
        raise CommandError(
            f"expected the digest of every file of {model.name}, found none of {unknown[0]}; the loader tells it "
            "once a pod has loaded the model"
        )
    return {file.path: file.sha256 for file in artifact.files}


def digest_text(digests: Mapping[str, str], *, output: str, name: str, namespace: str | None) -> str:
    """Return the digests in one of the forms that are offered."""
    if output == "json":
        return json.dumps(dict(digests), indent=2, sort_keys=True)
    if output == "spec":
        return _yaml({"integrity": {"sha256": dict(digests)}})
    text = manifest_text(digests)
    return text if output == "sha256sum" else config_map(name, namespace, {MANIFEST_KEY: text})


def config_map(name: str, namespace: str | None, data: Mapping[str, str]) -> str:
    """Return a ConfigMap with the label without which the operator reads none."""
    size = sum(len(text.encode()) for text in data.values())
    if size > MAX_TEXT_BYTES:
        raise CommandError(f"expected at most {MAX_TEXT_BYTES} bytes, found {size}; name fewer files")
    metadata: dict[str, object] = {"name": name, "labels": {labels.USE: "true"}}
    if namespace is not None:
        metadata["namespace"] = namespace
    return _yaml({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)})


def sign(digests: Mapping[str, str], signing: SigningKey) -> str:
    """Return the OpenSSF model-signing v1 signature of files by their digests."""
    try:
        # Half a second to import, and an extra of the package: only this command needs it.
        from model_signing._hashing.hashing import Digest  # noqa: PLC0415
        from model_signing._signing.signing import Payload  # noqa: PLC0415
        from model_signing.manifest import FileManifestItem, Manifest, SerializationType  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(f"expected the library model-signing, found {error}; install nimblet[sign]") from error
    items = [
        FileManifestItem(path=PurePosixPath(path), digest=Digest("sha256", bytes.fromhex(digest)))
        for path, digest in digests.items()
    ]
    kind = SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    payload = Payload(Manifest("model", items, kind))
    signature = _signer(signing).sign(payload)
    with TemporaryDirectory() as folder:
        path = Path(folder) / SIGNATURE_FILE
        signature.write(path)
        return path.read_text(encoding="utf-8")


def write_signature(text: str, path: Path, *, force: bool) -> None:
    """Write the signature; a file that is there stays unless it may be replaced."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CommandError(f"expected no file {path}, found one; give --out or --force") from error
    except OSError as error:
        raise CommandError(f"expected to write {path}, found: {error}; give --out") from error


def _signer(signing: SigningKey) -> "Signer":
    from model_signing._signing import sign_certificate, sign_ec_key  # noqa: PLC0415

    for path in (signing.key, *(item for item in (signing.certificate, *signing.chain) if item is not None)):
        if not path.is_file():
            raise CommandError(f"expected a file {path}, found none; correct the path")
    try:
        if signing.certificate is None:
            return sign_ec_key.Signer(signing.key)
        # the library wants a chain: the certificate itself where there is no other
        return sign_certificate.Signer(signing.key, signing.certificate, signing.chain or [signing.certificate])
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandError(
            "expected an unencrypted private key in PEM on P-256, P-384 or P-521, and its own certificate if one "
            f"is given; found: {error}"
        ) from error


def _below(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(base) / name
            if name.startswith(".") or file == folder / SIGNATURE_FILE:
                continue
            if not file.is_file() or file.is_symlink():
                raise CommandError(
                    f"expected plain files in {folder}, found a link or device {name}; copy the file"
                )
            yield file
        for name in folders:
            if (Path(base) / name).is_symlink():
                raise CommandError(f"expected plain folders in {folder}, found the link {name}; copy the folder")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise CommandError(f"expected to read {path}, found: {error}") from error
    return digest.hexdigest()


def _yaml(document: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=10**6)
