# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.golden.regenerate [--check]`: writes the golden outputs; `make gen` runs it."""

import sys
from collections.abc import Sequence

from tests.golden import pools, qdrant
from tests.golden.cases import OUTPUTS, generate
from tests.golden.texts import COMMAND, HEADER


def main(argv: Sequence[str]) -> int:
    """Write every output and remove those whose input is gone, or with --check only name what differs."""
    files = {**dict(generate()), **dict(qdrant.generate(HEADER)), **dict(pools.generate())}
    stale = [path for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
    folders = (OUTPUTS, qdrant.OUTPUTS)
    gone = {path for folder in folders for path in folder.glob("*.yaml")} - set(files)
    if "--check" in argv:
        for path in (*stale, *sorted(gone)):
            sys.stderr.write(f"{path.name}: expected the generated text, found another; run `{COMMAND}`\n")
        return 1 if stale or gone else 0
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for path in gone:
        path.unlink()
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
