# SPDX-License-Identifier: Apache-2.0
"""The pure parts behind scenarios, demo and benchmark: values, manifests, watch lines, argv, prompts."""

import io
import json
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest

from e2e.demo import Shown
from e2e.images import IMAGE_NAMES
from e2e.support.hub import GIT_HOST, WEIGHTS_HOST, make_trust, mirror_manifests, odd_files, weights_manifests
from e2e.support.manifests import model_manifest
from e2e.support.objects import Model
from e2e.support.registry import filling_pod_manifest, registry_manifests
from e2e.support.stack import CHART, TEST_TIMING, chart_values, merged
from e2e.support.wait import NotInTimeError, until
from e2e.support.watching import Watch
from nimblet.api.compactmodel import CompactModelSpec
from nimblet.plan.runtime.llamacpp import llamacpp_args
from nimblet.settings import Settings
from nimblet_loader.gguf import parse_header
from tests.bench.localserver import BenchError, local_args
from tests.bench.sizing import prompts
from tests.builders import a_serve

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IMAGES = {name: f"nimblet.local/{name}:abc" for name in IMAGE_NAMES}


def a_model(*, status: str, generation: int = 1) -> Model:
    condition = {"type": "Ready", "status": status, "reason": "Starting", "message": "m"}
    times = {"lastTransitionTime": NOW.isoformat(), "observedGeneration": 1}
    return Model.model_validate(
        {
            "kind": "CompactModel",
            "metadata": {"name": "m", "generation": generation},
            "status": {"observedGeneration": 1, "conditions": [{**condition, **times}]},
        }
    )


def test_values_fit_the_charts_schema_and_the_settings() -> None:
    trust = make_trust(now=NOW)
    values = chart_values(IMAGES, trust=trust, timing=TEST_TIMING)
    jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))
    settings = Settings.model_validate({key: values[key] for key in ("images", "fetch", "timing")})
    assert [entry.host for entry in settings.fetch.allow if entry.ca] == [WEIGHTS_HOST, GIT_HOST]


def test_merging_values_changes_only_what_is_named() -> None:
    base: dict[str, object] = {"images": {"loader": "a", "llamacpp": "b"}, "x": 1}
    assert merged(base, {"images": {"llamacpp": "c"}}) == {"images": {"loader": "a", "llamacpp": "c"}, "x": 1}
    assert base["images"] == {"loader": "a", "llamacpp": "b"}


def test_the_registry_and_what_fills_a_claim_meet_the_restricted_standard() -> None:
    registry = next(item for item in registry_manifests("r:1") if item["kind"] == "Deployment")
    filler = filling_pod_manifest("weights", "team", image="m:1", source=Path("/srv/m.gguf"), target="llm/m.gguf")
    for pod in (registry, filler):
        text = json.dumps(pod)
        assert '"runAsNonRoot": true' in text
        assert '"allowPrivilegeEscalation": false' in text
        assert '"readOnlyRootFilesystem": true' in text
    assert '"image": "r:1"' in json.dumps(registry)


def test_hubs_run_the_image_just_built() -> None:
    manifests = [*mirror_manifests("m:1"), *weights_manifests("m:1", make_trust(now=NOW))]
    deployments = json.dumps([item for item in manifests if item["kind"] == "Deployment"])
    assert deployments.count('"image": "m:1"') == 2
    assert "nimblet.local/mirror:dev" not in deployments


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("unloadable.gguf", "llama"), ("foreign.gguf", "quantum"), ("truncated.gguf", "llama")],
)
def test_odd_files_have_headers_that_the_loader_can_read(name: str, architecture: str) -> None:
    data = odd_files()[name]
    header = parse_header(iter([data]))
    end = header.data_start + max(tensor.offset + (tensor.size or 0) for tensor in header.tensors)
    assert header.metadata["general.architecture"] == architecture
    assert (end > len(data)) is (name == "truncated.gguf")


def test_model_manifest_is_a_valid_spec() -> None:
    spec = CompactModelSpec.model_validate(model_manifest("m", "ns", resources={"memory": "1Gi"})["spec"])
    assert (spec.runtime.context_length, spec.runtime.parallel) == (1024, 1)


def test_watch_keeps_one_sighting_a_line() -> None:
    lines = [{"type": kind, "object": {"kind": "Pod", "n": kind}} for kind in ("ADDED", "MODIFIED")]
    watched = Watch()
    watched.read(io.StringIO("".join(f"{json.dumps(line)}\n" for line in lines)))
    assert [item.event for item in watched.sightings] == ["ADDED", "MODIFIED"]
    assert watched.first(lambda item: item.event == "MODIFIED", what="it").body["n"] == "MODIFIED"


def test_waiting_tells_what_was_seen_last() -> None:
    with pytest.raises(NotInTimeError, match="expected a miracle within 0 s; last seen: nothing"):
        until(lambda: False, what="a miracle", seconds=0, seen=lambda: "nothing")


def test_condition_of_an_older_generation_does_not_count() -> None:
    assert a_model(status="True").shown("Ready") == ("True", "Starting")
    assert a_model(status="True", generation=2).shown("Ready") == ("", "")


def test_demo_prints_a_condition_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown()
    assert shown.changed(a_model(status="False")) is None
    assert shown.changed(a_model(status="False")) is None
    assert capsys.readouterr().out.count("Ready=False  Starting") == 1
    assert shown.changed(a_model(status="True")) is not None


def test_local_argv_differs_from_the_pods_in_paths_and_address_only() -> None:
    args = llamacpp_args(a_serve())
    here = local_args(args, model=Path("/m.gguf"), key_file=Path("/key"), port=1)
    changed = [args[index - 1] for index in range(len(args)) if args[index] != here[index]]
    assert sorted(changed) == ["--api-key-file", "--host", "--model", "--port"]
    with pytest.raises(BenchError, match="--api-key-file"):
        local_args(["--model", "x"], model=Path("/m"), key_file=Path("/k"), port=1)


def test_prompts_have_their_lengths_and_share_no_beginning() -> None:
    made = list(prompts(list(range(20)), [50] * 60))
    assert {len(prompt) for prompt in made} == {50}
    assert all(one[:3] != other[:3] for one, other in combinations(made, 2))
