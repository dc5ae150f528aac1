# SPDX-License-Identifier: Apache-2.0
"""The operator as `python -m nimblet` runs it, but that every pod's address leads to one stub server.

    python -m tests.cluster.operator_process STUB_URL [options of python -m nimblet]

Pods are make-believe here: they have addresses where nobody listens. Only for tests.
"""

import asyncio
import os
import sys

from nimblet.plan.facts import PodFacts
from nimblet.shell.logs import set_up_logging
from nimblet.shell.operator import run_operator
from nimblet.shell.options import parse_options


def main() -> int:
    stub, *argv = sys.argv[1:]
    options = parse_options(argv, os.environ)
    set_up_logging(options.log_format)

    def url_of(pod: PodFacts, port: int) -> str:
        return f"{stub}/{pod.name}/{port}"

    return asyncio.run(run_operator(options, url_of=url_of))


if __name__ == "__main__":
    sys.exit(main())
