# SPDX-License-Identifier: Apache-2.0
"""Entry point of `python3 -m nimblet_loader`; it must hold no logic."""

import sys

from nimblet_loader.cli import main

if __name__ == "__main__":
    sys.exit(main())
