# SPDX-License-Identifier: Apache-2.0
"""Entry point of the operator's image: `python -m nimblet`."""

import asyncio
import os
import sys

from nimblet.shell.logs import set_up_logging
from nimblet.shell.operator import Exit, run_operator
from nimblet.shell.options import OptionsError, parse_options


def main() -> int:
    """Run the operator; return the exit code."""
    try:
        options = parse_options(sys.argv[1:], os.environ)
    except OptionsError as error:
        sys.stderr.write(f"nimblet: {error}\n")
        return Exit.OPTIONS
    set_up_logging(options.log_format)
    return asyncio.run(run_operator(options))


if __name__ == "__main__":
    sys.exit(main())
