# SPDX-License-Identifier: Apache-2.0
"""`python -m e2e.matrix`: play every row and write docs/fault-matrix.md."""

import os
import subprocess
import sys

from e2e.matrix.table import DOCUMENT
from e2e.scenarios.test_fault_matrix import WRITE


def main() -> int:
    """Run the scenario with the wish to write; its exit code is ours."""
    root = DOCUMENT.parents[1]
    argv = [sys.executable, "-m", "pytest", "e2e/scenarios/test_fault_matrix.py", "-rA", *sys.argv[1:]]
    return subprocess.run(argv, cwd=root, env={**os.environ, WRITE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
