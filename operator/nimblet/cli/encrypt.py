# SPDX-License-Identifier: Apache-2.0
"""`nimblet encrypt`: a model's files as source.encryption reads them, and the manifest that is to be signed.

The loader's own code reads the files and encrypts them; it comes with an extra of this package
(`nimblet[encrypt]`). No key is ever printed: a new one goes to a file that only its owner can read.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from nimblet.cli.errors import CommandError
from nimblet.plan.integrity import manifest_text

if TYPE_CHECKING:
    from nimblet_loader.sealed import EncryptionManifest

_STEP = 10


def add_encrypt(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet encrypt`."""
    command.add_argument("path", type=Path, help="folder with the files of the one model, in plaintext")
    command.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to write; made if absent"
    )
    command.add_argument("--model", required=True, metavar="NAME", help="for source.encryption.model")
    command.add_argument("--revision", required=True, metavar="REV", help="for source.encryption.revision")
    command.add_argument(
        "--recipient",
        action="append",
        default=[],
        metavar="AGE1...",
        help="public key whose owner can decrypt; give it once for each",
    )
    command.add_argument(
        "--new-identity",
        type=Path,
        metavar="FILE",
        help="make a key, write it to FILE (which must not exist), and encrypt for it too",
    )
    command.add_argument("--files", action="append", default=[], metavar="GLOB", help="as source.files")
    command.add_argument("--quantization", metavar="NAME", help="as source.quantization")
    command.add_argument("--adapter", action="store_true", help="the files are of a LoRA adapter")
    command.set_defaults(run=run_encrypt)


def run_encrypt(arguments: argparse.Namespace, world: object) -> str:
    """Encrypt, and return what was made and what to do with it."""
    del world
    try:
        # An extra of the package, as model-signing is: only this command needs it.
        from nimblet_egress.errors import SourceError  # noqa: PLC0415
        from nimblet_loader.sealed import MANIFEST  # noqa: PLC0415
        from nimblet_loader.sealing import Sealing, seal  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(f"expected nimblet-loader, found {error}; install nimblet[encrypt]") from error
    _check_folders(arguments)
    try:
        with _made(arguments.new_identity) as made:
            manifest = seal(
                Sealing(
                    arguments.path,
                    arguments.out,
                    model=arguments.model,
                    revision=arguments.revision,
                    recipients=(*arguments.recipient, *made),
                    files=tuple(arguments.files),
                    quantization=arguments.quantization,
                    adapter=arguments.adapter,
                    reach=Progress(sys.stderr).reach,
                )
            )
    except SourceError as error:
        raise CommandError(error.message) from error
    except ValueError as error:
        raise CommandError(
            f"expected a model and a revision of letters, digits and . _ : / @ + -, found: {error}"
        ) from error
    except OSError as error:
        raise CommandError(f"expected to write to {arguments.out}, found: {error}; give another --out") from error
    return _told(manifest, arguments, MANIFEST)


@dataclass
class Progress:
    """Tells each tenth of the work on a stream."""

    stream: TextIO
    told: int = 0

    def reach(self, done: int, total: int) -> None:
        """Tell the tenth that was reached, once."""
        tenth = done * 100 // total // _STEP * _STEP if total else 100
        if tenth > self.told:
            self.told = tenth
            self.stream.write(f"{tenth} % of {total} bytes\n")


def _check_folders(arguments: argparse.Namespace) -> None:
    if not arguments.path.is_dir():
        raise CommandError(f"expected a folder {arguments.path}, found none; correct the path")
    if not arguments.recipient and arguments.new_identity is None:
        raise CommandError(
            "expected --recipient or --new-identity, found neither; somebody must be able to decrypt"
        )
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"expected to make {arguments.out}, found: {error}; give another --out") from error
    if arguments.out.resolve().is_relative_to(arguments.path.resolve()):
        raise CommandError(
            f"expected --out beside {arguments.path}, found it inside; plaintext must not be published"
        )


@contextmanager
def _made(path: Path | None) -> Iterator[tuple[str, ...]]:
    """Make a key and write it where only its owner reads; give its recipient.

    It goes again where nothing was encrypted for it: the command must take the same path when it is corrected.
    """
    if path is None:
        yield ()
        return
    from nimblet_loader.age import new_identity  # noqa: PLC0415

    key = new_identity()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"expected to make the key file {path}, found: {error}; give another path") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"# public key: {key.recipient}\n{key.secret}\n")
        yield (key.recipient,)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _told(manifest: "EncryptionManifest", arguments: argparse.Namespace, name: str) -> str:
    digests = {file.path: file.sha256 for file in manifest.plaintext.files if file.sha256 is not None}
    out = arguments.out
    key = f"\nThe key is in {arguments.new_identity}: keep it." if arguments.new_identity is not None else ""
    return (
        f"{manifest_text(digests)}{out} holds these files encrypted, and {name}.{key}\n"
        f"Next: nimblet sign {out} --key KEY, and put all of {out} at the source."
    )
