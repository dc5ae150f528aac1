# SPDX-License-Identifier: Apache-2.0
"""`python -m e2e.cluster`: see `cli`."""

import sys

from e2e.cluster.cli import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
