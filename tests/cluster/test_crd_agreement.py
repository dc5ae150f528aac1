# SPDX-License-Identifier: Apache-2.0
"""pydantic and the API server agree on every spec, and on the defaults they fill in.

Valid specs are made from the models' own patterns; wrong ones by changing one or two places of a valid one.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from e2e.cluster.api import Api
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ApiError
from nimblet.api.compactmodel import CompactModelSpec
from tests.cluster.crd_support import (
    DRY_RUN,
    Object,
    deep_copy,
    model_manifest,
    models_in,
    valid_spec,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
EXAMPLES = 100
REFUSED = {400, 422}
DIGEST = "0" * 64
Place = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A spec on which the two may differ, and why that is harmless."""

    name: str
    spec: Object
    parsed: bool
    stored: bool
    reason: str


KNOWN_DIFFERENCES = (
    Difference(
        name="integral-float",
        spec=valid_spec(runtime={"parallel": 2.0}),
        parsed=False,
        stored=True,
        reason="the server writes 2.0 back as 2, so the operator never reads a float; a file may hold one",
    ),
    Difference(
        name="null-in-a-map",
        spec=valid_spec(integrity={"sha256": {"a": None, "b": DIGEST}}),
        parsed=False,
        stored=True,
        reason="the server drops the entry; a digest left empty in a file should be seen, not dropped",
    ),
)


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    return control_plane.api


def parse(spec: object) -> CompactModelSpec | None:
    try:
        return CompactModelSpec.model_validate(spec, by_alias=True, by_name=False)
    except ValidationError:
        return None


def store(api: Api, spec: object) -> CompactModelSpec | None:
    try:
        stored = api.create(f"{models_in('default')}?{DRY_RUN}", model_manifest(spec))
    except ApiError as error:
        if error.status not in REFUSED:
            raise
        return None
    return CompactModelSpec.model_validate(stored["spec"], by_alias=True, by_name=False)


def text(pattern: str, longest: int) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda value: len(value) <= longest)


def chooses_files_once(spec: dict[str, object]) -> bool:
    source = spec["source"]
    return not (isinstance(source, dict) and {"files", "quantization"} <= source.keys())


def asks_devices_of_those_that_have_them(hardware: Object) -> bool:
    """Profiles of the CPU have no devices, and only whole ones come in numbers."""
    deviceless = hardware.get("profile") in ("cpu", "xeon") and hardware.keys() & {"count", "sharing"}
    several = hardware.get("count", 1) != 1 and hardware.get("sharing", "Whole") != "Whole"
    return not deviceless and not several


def fits_one_node(spec: dict[str, object]) -> bool:
    """A ReadWriteOnce cache wants one replica and Recreate."""
    cache, rollout, replicas = spec.get("cache"), spec.get("rollout"), spec.get("replicas", 1)
    once = isinstance(cache, dict) and cache.get("accessMode") == "ReadWriteOnce"
    recreate = isinstance(rollout, dict) and rollout.get("strategy") == "Recreate"
    return not once or (recreate and isinstance(replicas, int) and replicas <= 1)


QUANTITIES = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", fullmatch=True)
DIGESTS = st.dictionaries(
    text("[A-Za-z0-9._/-]{1,20}", 20), st.from_regex("[0-9a-f]{64}", fullmatch=True), min_size=1, max_size=3
)
SECRETS = st.fixed_dictionaries({"name": text("[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", 253)})
HUB_SOURCES = st.fixed_dictionaries(
    {"uri": text("hf://[A-Za-z0-9][A-Za-z0-9._-]{0,20}/[A-Za-z0-9][A-Za-z0-9._-]{0,20}", 1000)},
    optional={
        "revision": text("[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", 100),
        "files": st.lists(text(r"[A-Za-z0-9._*?/\[\]-]{1,20}", 200), min_size=1, max_size=3),
        "quantization": text("[A-Za-z0-9][A-Za-z0-9_-]{0,9}", 20),
        "credentialsSecretRef": SECRETS,
    },
)
WEB_SOURCES = st.fixed_dictionaries(
    {
        "uri": text(
            "https://[A-Za-z0-9]([A-Za-z0-9.-]{0,9}[A-Za-z0-9])?(:[0-9]{1,5})?/[A-Za-z0-9._~/%+-]{1,20}", 1000
        )
    }
)
BUCKET_SOURCES = st.fixed_dictionaries(
    {"uri": text("s3://[a-z0-9][a-z0-9.-]{1,9}[a-z0-9](/[A-Za-z0-9._=+-]{1,9}){0,2}/?", 1000)},
    optional={"roleARN": text("arn:aws:iam::[0-9]{1,12}:role/[A-Za-z0-9+=,.@_/-]{1,20}", 254)},
)
OTHER_SOURCES = st.fixed_dictionaries(
    {
        "uri": st.one_of(
            text("oci://[A-Za-z0-9]([A-Za-z0-9.-]{0,9}[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z]{1,5}){1,2}(:v1)?", 1000),
            text("pvc://[a-z0-9]([a-z0-9.-]{0,9}[a-z0-9])?(/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]{0,5}){0,3}/?", 1000),
        )
    }
)
KEYS = text("[a-z]{1,5}([.][a-z]{1,3})?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,9}[A-Za-z0-9])?", 317)
VALUES = text("([A-Za-z0-9]([A-Za-z0-9_.-]{0,9}[A-Za-z0-9])?)?", 63)
TEXTS = st.fixed_dictionaries(
    {"name": text("[a-z0-9]([-a-z0-9.]{0,9}[a-z0-9])?", 253), "key": text("[-._a-zA-Z0-9]{1,9}", 253)}
)
IDENTITIES = text("[ -~]{1,20}", 256)
SIGNERS = st.one_of(
    st.fixed_dictionaries({"key": st.fixed_dictionaries({"publicKeyRef": TEXTS})}),
    st.fixed_dictionaries(
        {"certificate": st.fixed_dictionaries({"rootsRef": TEXTS}, optional={"identity": IDENTITIES})}
    ),
    st.fixed_dictionaries(
        {
            "sigstore": st.fixed_dictionaries(
                {"identity": IDENTITIES, "issuer": text("https://[!-~]{1,20}", 256), "trustRootRef": TEXTS}
            )
        }
    ),
)
SIGNATURES = st.builds(lambda bundle, signer: {"bundleRef": bundle, **signer}, TEXTS, SIGNERS)
LABELS = st.dictionaries(KEYS, VALUES, max_size=3)
GUESSES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("NGram")}, optional={"draftTokens": st.integers(1, 64), "ngramSize": st.integers(1, 32)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("Draft"), "source": HUB_SOURCES.filter(lambda source: "files" not in source)},
        optional={"draftTokens": st.integers(4, 64), "minDraftTokens": st.integers(1, 4)},
    ),
)
EXTRA_ARGS = st.lists(
    text("--[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,5}){0,2}(=[A-Za-z0-9][A-Za-z0-9._-]{0,9})?", 80),
    min_size=1,
    max_size=4,
    unique_by=lambda item: item.partition("=")[0],
)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "integrity": st.one_of(
        st.fixed_dictionaries({"sha256": DIGESTS}, optional={"signature": SIGNATURES}),
        st.fixed_dictionaries({"manifestRef": TEXTS}, optional={"signature": SIGNATURES}),
        st.fixed_dictionaries({"signature": SIGNATURES}),
    ),
    "task": st.just("Chat"),
    "runtime": st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["Auto", "LlamaCpp"]),
            "contextLength": st.integers(256, 1048576),
            "parallel": st.integers(1, 64),
            "kvCacheType": st.sampled_from(["f16", "q8_0", "q4_0"]),
            "speculative": GUESSES,
            "extraArgs": EXTRA_ARGS,
        },
    ),
    "hardware": st.fixed_dictionaries(
        {},
        optional={
            "profile": st.sampled_from(["auto", "cpu", "xeon", "nvidia", "my-own"]),
            "count": st.integers(min_value=1, max_value=16),
            "sharing": st.sampled_from(["Whole", "Partition", "Shared"]),
        },
    ).filter(asks_devices_of_those_that_have_them),
    "resources": st.fixed_dictionaries({}, optional={"cpu": QUANTITIES, "memory": QUANTITIES}),
    "servedModelName": text("[A-Za-z0-9][A-Za-z0-9._:/-]{0,9}", 100),
    "suspend": st.booleans(),
    "access": st.fixed_dictionaries(
        {},
        optional={
            "namespaces": st.lists(text("[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?", 63), max_size=3),
            "keyVersion": st.integers(1, 9999),
            "keyGraceSeconds": st.integers(0, 604800),
            "apiKeysSecretRef": SECRETS,
        },
    ),
    "scheduling": st.fixed_dictionaries(
        {},
        optional={
            "nodeSelector": LABELS,
            "podLabels": LABELS,
            "tolerations": st.lists(st.fixed_dictionaries({"key": KEYS}, optional={"value": VALUES}), max_size=2),
            "spread": st.lists(st.fixed_dictionaries({"topologyKey": KEYS}), min_size=1, max_size=1),
        },
    ),
    "replicas": st.integers(0, 100),
    "cache": st.fixed_dictionaries(
        {},
        optional={
            "accessMode": st.sampled_from(["ReadWriteMany", "ReadWriteOnce"]),
            "storageClassName": text("[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", 253),
            "size": QUANTITIES,
            "retention": st.sampled_from(["Delete", "Retain"]),
        },
    ),
    "rollout": st.fixed_dictionaries({}, optional={"strategy": st.sampled_from(["RollingUpdate", "Recreate"])}),
}
VALID_SPECS = st.one_of(
    st.fixed_dictionaries({"source": HUB_SOURCES}, optional=FIELDS).filter(chooses_files_once),
    st.fixed_dictionaries({"source": WEB_SOURCES} | FIELDS),
    st.fixed_dictionaries({"source": st.one_of(BUCKET_SOURCES, OTHER_SOURCES)}, optional=FIELDS),
).filter(fits_one_node)

HOSTILE_TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "a\n",
            "hf://org/repo\n",
            "hf://org/repo/../x",
            "https://host/m?token=1",
            "https://user@host/m",
            "file:///etc/passwd",
            "\x00",
            "$(id)",
            "é",
            "٣",  # a digit, but not one of 0-9
            "a" * 65,
            "a" * 1001,
            "1e3",
            "-1",
            "chat",
            "--flag",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
WRONG_VALUES = st.one_of(
    HOSTILE_TEXTS,
    st.sampled_from([None, True, False, 0.5, -1, 0, 65, 101, 255, 1048577, 2**31, 2**63, 2**70]),
    # a copy each time: a second change may go inside the first one
    st.sampled_from([[], [None], [[]], ["*"] * 17, {}, {"x": 1}, {"name": None}]).map(copy.deepcopy),
)


def places(value: object, at: Place = ()) -> Iterator[Place]:
    """Yield every place inside `value` where a value stands."""
    if isinstance(value, dict):
        inner: list[tuple[str | int, object]] = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    for key, below in inner:
        yield (*at, key)
        yield from places(below, (*at, key))


def holder(spec: Object, place: Place) -> Object:
    """Return the object or list that holds `place`."""
    found: object = spec
    for key in place[:-1]:
        found = found[key]  # type: ignore[index]  # `place` was read from this very value
    return found  # type: ignore[return-value]


BOUNDARIES = st.sampled_from([0, 1, 64, 65, 100, 101, 255, 256, 1048576, 1048577])


def nudged(value: object) -> st.SearchStrategy[object]:
    """Return neighbours of a value: as often valid as not."""
    if isinstance(value, int):
        return BOUNDARIES
    if isinstance(value, str):
        return st.sampled_from([value[:-1], value[1:], value + "a", value.upper(), value * 40, value + "\n"])
    return st.just(value)


@st.composite
def changed_specs(draw: st.DrawFn) -> Object:
    """Return a valid spec with one or two places nudged, removed, overwritten, or given an unknown neighbour."""
    spec = deep_copy(draw(VALID_SPECS))
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        found = sorted(places(spec), key=json.dumps)
        if not found:
            break
        place = draw(st.sampled_from(found))
        target, key = holder(spec, place), place[-1]
        change = draw(st.sampled_from(["nudge", "nudge", "remove", "overwrite", "add"]))
        if change == "remove":
            del target[key]  # type: ignore[arg-type]  # a list's index where it is a list
        elif change == "add" and isinstance(target, dict):
            target[draw(st.sampled_from(["unknown", "context_length", "", "a b"]))] = draw(WRONG_VALUES)
        else:
            value = nudged(target[key]) if change == "nudge" else WRONG_VALUES  # type: ignore[index]
            target[key] = draw(value)  # type: ignore[index]
    return spec


def is_known_difference(spec: Object) -> bool:
    """Nulls in a map of free keys; integral floats are not made at all."""
    free = [("integrity", "sha256"), ("scheduling", "nodeSelector"), ("scheduling", "podLabels")]
    maps = [part.get(name) for at, name in free if isinstance(part := spec.get(at), dict)]
    return any(isinstance(found, dict) and None in found.values() for found in maps)


BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@BOUNDED
@given(spec=VALID_SPECS)
def test_both_accept_a_valid_spec_and_fill_in_the_same_defaults(api: Api, spec: Object) -> None:
    parsed = parse(spec)
    assert parsed is not None
    assert store(api, spec) == parsed


@BOUNDED
@given(spec=changed_specs().filter(lambda spec: not is_known_difference(spec)))
def test_both_accept_or_both_refuse_a_changed_spec(api: Api, spec: Object) -> None:
    assert parse(spec) == store(api, spec)


@pytest.mark.parametrize("difference", KNOWN_DIFFERENCES, ids=lambda difference: difference.name)
def test_known_differences_are_still_there(api: Api, difference: Difference) -> None:
    found = (parse(difference.spec) is not None, store(api, difference.spec) is not None)
    assert found == (difference.parsed, difference.stored), difference.reason


def test_null_is_absent_for_both(api: Api) -> None:
    spec = valid_spec(replicas=None, runtime=None, task=None, integrity=None)
    assert parse(spec) == store(api, spec) == parse(valid_spec())
