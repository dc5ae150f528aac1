# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.golden.regenerate [--check]`: writes the golden outputs; `make gen` runs it."""

import sys
from collections.abc import Sequence

from tests.catalog import samples, table
from tests.golden import pools, qdrant
from tests.golden.cases import OUTPUTS, generate
from tests.golden.texts import COMMAND, HEADER


def main(argv: Sequence[str]) -> int:
    """Write every output and remove those whose input is gone, or with --check only name what differs."""
    written = dict(samples.generate())
    files = {**dict(generate()), **dict(qdrant.generate(HEADER)), **dict(pools.generate()), **written}
    stale = [path for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
    folders = (OUTPUTS, qdrant.OUTPUTS, samples.CATALOG, samples.CATALOG / "facts")
    gone = {path for folder in folders for path in (*folder.glob("*.yaml"), *folder.glob("*.json"))} - set(files)
    if "--check" in argv:
        for path in (*stale, *sorted(gone)):
            sys.stderr.write(f"{path.name}: expected the generated text, found another; run `{COMMAND}`\n")
        return 1 if stale or gone else _document(check=True)
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for path in gone:
        path.unlink()
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return _document(check=False)


def _document(*, check: bool) -> int:
    """Write or compare the catalogue's table: it is planned from the samples, which are written by now."""
    path, text = table.document(table.planned())
    if path.read_bytes() == text.encode():
        return 0
    if check:
        sys.stderr.write(f"{path.name}: expected the generated text, found another; run `{COMMAND}`\n")
        return 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
