# SPDX-License-Identifier: Apache-2.0
"""Which relative paths that a source names may become paths of ours. Pure."""

import re
from typing import Final

MAX_NAME_BYTES: Final = 200
"""A file name must leave room for a temporary name's prefix and pod uid under the usual 255 bytes."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


def unsafe_path(path: str) -> str | None:
    """Return why `path` may not be used as a relative file path below a folder, or None if it may."""
    if not path or len(path) > 512:  # noqa: PLR2004
        return "it must have 1 to 512 characters"
    if _CONTROL.search(path):
        return "it holds a backslash or a control character"
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "it must be relative, without empty, '.' or '..' parts"
    try:
        longest = max(len(segment.encode()) for segment in segments)
    except UnicodeEncodeError:
        return "it is not valid Unicode text"
    if longest > MAX_NAME_BYTES:
        return f"a part of it is longer than {MAX_NAME_BYTES} bytes"
    return None
