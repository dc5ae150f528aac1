# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet.crdgen [--check]`, run in the root of the repository."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nimblet.crdgen.outputs import Places, generate, stale_files


def main(argv: Sequence[str] | None = None) -> int:
    """Write the generated files, or with --check say which ones differ; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nimblet.crdgen", description="CRDs and docs/api.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument("--out", type=Path, default=Places.crds, help="folder of the CRDs (default: crds)")
    parser.add_argument("--chart", type=Path, default=Places.chart, help="folder of the chart's CRD templates")
    parser.add_argument("--reference", type=Path, default=Places.reference, help="file of the API reference")
    options = parser.parse_args(argv)
    files = generate(Places(crds=options.out, chart=options.chart, reference=options.reference))
    stale = stale_files(files)
    if options.check:
        for path in stale:
            print(f"{path}: expected the generated text, found another; run `make gen`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
