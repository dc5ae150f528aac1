# SPDX-License-Identifier: Apache-2.0
"""The freeze of the labels: the digests of all documents and questions, as `sha256sum --check` reads them.

Run `python -m e2e.data.labels` to print them. LABELS.sha256 changes only when a label was wrong, and the commit
says which one and why; never to make a figure better.
"""

import hashlib
from pathlib import Path

DATA = Path(__file__).parent
FROZEN = DATA / "LABELS.sha256"


def label_files() -> tuple[Path, ...]:
    return tuple(sorted((*DATA.glob("*.jsonl"), *DATA.glob("documents/*.md"))))


def digests() -> str:
    """Return a line per label file: digest, two spaces, path from this folder."""
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(DATA).as_posix()}"
        for path in label_files()
    )
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(digests(), end="")
