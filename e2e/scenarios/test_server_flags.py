# SPDX-License-Identifier: Apache-2.0
"""The argument list of llama.cpp that tests hold flags against is the one that the built server prints.

No cluster: the server is asked for its help and nothing more.
"""

import os
import subprocess

import pytest

from e2e.cluster.paths import cache_of
from e2e.images.llamaserver import ensure_llama_server
from nimblet.plan.runtime.flags import FLAGS
from nimblet.plan.runtime.llamacpp import LLAMACPP
from tests.arguments import published, read_help

pytestmark = pytest.mark.timeout(900)


def test_the_built_server_publishes_the_flags_of_the_list() -> None:
    cache = cache_of(os.environ)
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    done = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=60, check=True)
    printed = read_help(done.stdout)
    assert printed == published("LlamaCpp", LLAMACPP.pinned)
    ours = {flag.name: not flag.switch for flag in FLAGS["LlamaCpp"] if flag.since}
    assert ours.items() <= printed.items()
