# SPDX-License-Identifier: Apache-2.0
"""The age format (age-encryption.org/v1) by its library: keys, and streams in bounded memory.

What the library trips over becomes a reason here, and nothing that it says of a key gets into a message. A
plaintext is authentic only once the stream has ended well: whoever writes it keeps it under a temporary name
until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyrage

from nimblet_egress.errors import Reason, SourceError, quoted

MAGIC: Final = b"age-encryption.org/v1\n"
MAX_KEY_BYTES: Final = 8192
MAX_IDENTITIES: Final = 8
_NO_KEY_FITS: Final = "No matching keys found"
_TRUNCATED: Final = "truncated"
"""The library's own words; a test of each holds them."""


class Reader(Protocol):
    """Where bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class Writer(Protocol):
    """Where bytes go to."""

    def write(self, chunk: bytes, /) -> int:
        """Take a chunk; return its length."""
        ...

    def flush(self) -> None:
        """Let go of what is held back."""
        ...


@dataclass(frozen=True, repr=False)
class Identities:
    """Keys that decrypt, the first that fits. Never shown."""

    keys: tuple[object, ...] = field(repr=False)


@dataclass(frozen=True)
class NewIdentity:
    """A key made anew: `secret` decrypts, whoever has `recipient` encrypts."""

    secret: str = field(repr=False)
    recipient: str


def new_identity() -> NewIdentity:
    """Make a key."""
    key = pyrage.x25519.Identity.generate()
    return NewIdentity(secret=str(key), recipient=str(key.to_public()))


def parse_identities(text: str) -> Identities:
    """Return the keys of a text as `age-keygen` writes it: one a line, comments behind #."""
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(wanted) <= MAX_IDENTITIES:
        raise _bad_key(f"{len(wanted)} lines that could be keys")
    try:
        return Identities(tuple(pyrage.x25519.Identity.from_str(line) for line in wanted))
    except pyrage.IdentityError:
        raise _bad_key("a line that is no such key") from None  # the library's words may hold the key's


def encrypt(source: Reader, target: Writer, recipients: Sequence[str]) -> None:
    """Encrypt a stream for all of the recipients."""
    try:
        keys = [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError as error:
        raise SourceError(
            Reason.DecryptionKeyInvalid,
            "Expected recipients that begin with age1; found one that is none. Give the public half of a key.",
        ) from error
    pyrage.encrypt_io(source, target, keys)


def decrypt(source: Reader, target: Writer, identities: Identities, *, name: str) -> None:
    """Decrypt a stream that begins with `MAGIC`; `name` is the file's in messages.

    What `source` and `target` raise comes through as it is, unless the library hides it: they remember it.
    """
    try:
        pyrage.decrypt_io(source, target, list(identities.keys))
    except pyrage.DecryptError as error:
        if _NO_KEY_FITS in str(error):
            raise SourceError(
                Reason.DecryptionKeyMismatch,
                f"Expected a key that {quoted(name)} was encrypted for; none of those given is. Give the key that "
                "belongs to the recipient it was made with.",
            ) from error
        raise _damaged(name, "its header is not sound") from error
    except OSError as error:
        if error.errno is not None:
            raise
        if _TRUNCATED in str(error):
            raise truncated(name) from error
        raise _damaged(name, "a part of it is not as it was encrypted, or not in its place") from error


def truncated(name: str) -> SourceError:
    """Return the error of a stream that ends before its last part."""
    return SourceError(
        Reason.CiphertextTruncated,
        f"Expected {quoted(name)} whole; it ends before its last part. Put the whole file at the source.",
    )


def _damaged(name: str, why: str) -> SourceError:
    return SourceError(
        Reason.CiphertextDamaged,
        f"Expected {quoted(name)} as it was encrypted; {why}. Don't use it; put the file there again as "
        "`nimblet encrypt` wrote it.",
    )


def _bad_key(found: str) -> SourceError:
    return SourceError(
        Reason.DecryptionKeyInvalid,
        f"Expected 1 to {MAX_IDENTITIES} age identities, AGE-SECRET-KEY-1 and more, one a line; found {found}. "
        "Put there what `nimblet encrypt --new-identity` or age-keygen wrote.",
    )
