# SPDX-License-Identifier: Apache-2.0
"""The other ways weights arrive: an https server with the administrator's CA, and a download that is cut.

Stalls, full disks, redirects, proxies and hostile headers are covered by the loader's own tests.
"""

from e2e.models import SMOLLM2
from e2e.support.asking import ask, endpoint_of
from e2e.support.hub import WEIGHTS_URL
from e2e.support.kube import Kube
from e2e.support.manifests import model_manifest

NAME = "sourced"


def test_https_source_with_a_digest_and_the_administrators_ca(kube: Kube, namespace: str) -> None:
    integrity = {"sha256": {SMOLLM2.file: SMOLLM2.sha256}}
    kube.apply(model_manifest(NAME, namespace, uri=f"{WEIGHTS_URL}/{SMOLLM2.file}", integrity=integrity))
    model = kube.wait_ready(NAME, namespace)
    assert model.shown("Verified") == ("True", "DigestsMatch")
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)


def test_download_that_is_cut_every_twenty_megabytes_resumes(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace, uri="hf://faults/cut"))
    kube.wait_ready(NAME, namespace)
    log = kube.run("logs", f"--namespace={namespace}", f"deployment/{NAME}-model", "--container=loader")
    assert "follows in" in log
    # every byte came once: each try asked for the rest only
    assert f"{SMOLLM2.size_bytes} bytes received" in log
