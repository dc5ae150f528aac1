# SPDX-License-Identifier: Apache-2.0
"""Hardware profiles of the settings: what they change of a built-in one, and how a flawed one is told."""

import pytest
from pydantic import ValidationError

from nimblet.hardware import BUILT_IN
from nimblet.settings import Settings


def parsed(**profiles: object) -> Settings:
    return Settings.model_validate({"hardware": {"profiles": profiles}})


def test_without_values_there_are_the_built_in_profiles() -> None:
    assert Settings().hardware.known == BUILT_IN
    assert list(BUILT_IN) == ["cpu", "xeon", "nvidia", "gaudi", "intel-gpu", "amd"]
    assert [name for name, profile in BUILT_IN.items() if profile.needs] == []


def test_a_change_of_a_built_in_profile_keeps_the_rest_of_it() -> None:
    values = {"images": {"VLLM": "registry/vllm:1"}, "shmSize": "2Gi", "runtimeClassName": "nvidia"}
    nvidia = parsed(nvidia=values).hardware.known["nvidia"]
    assert nvidia.images == {**BUILT_IN["nvidia"].images, "VLLM": "registry/vllm:1"}
    assert (nvidia.shm_bytes, nvidia.runtime_class, nvidia.by_auto) == (2 * 2**30, "nvidia", True)
    assert nvidia.devices == BUILT_IN["nvidia"].devices


def test_an_own_profile_begins_with_its_base_and_is_not_for_auto() -> None:
    known = parsed(
        lab={
            "base": "gaudi",
            "hostIPC": True,
            "capabilities": ["SYS_NICE"],
            "hugepages": {"2Mi": "8Gi"},
            "supplementalGroups": [44],
            "devices": [{"resource": "lab.dev/card", "memoryLabel": "lab.dev/memory"}],
        }
    ).hardware.known
    assert list(known)[-1] == "lab"
    lab = known["lab"]
    assert (lab.name, lab.class_, lab.by_auto) == ("lab", "gaudi", False)
    assert lab.needs == ("hostIPC", "capability SYS_NICE")
    assert lab.hugepages == {"2Mi": 8 * 2**30}
    assert lab.devices[0].resource == "lab.dev/card"


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ({"lab": {}}, "profiles.lab: expected base, one of cpu, xeon, nvidia"),
        ({"lab": {"base": "abacus"}}, "profiles.lab.base: expected one of cpu, xeon"),
        ({"nvidia": {"base": "amd"}}, "profiles.nvidia.base: a built-in name begins with itself"),
        ({"auto": {"base": "cpu"}}, "profiles.auto: auto is a choice among profiles"),
        ({"lab": {"base": "cpu", "nope": 1}}, "Extra inputs are not permitted"),
        ({"lab": {"base": "cpu", "shmSize": "much"}}, "String should match pattern"),
        ({"lab": {"base": "cpu", "hugepages": {"4Mi": "1Gi"}}}, "String should match pattern"),
        ({"lab": {"base": "gaudi", "devices": [{"resource": "card"}]}}, "String should match pattern"),
        ({"lab": {"base": "cpu", "tolerations": [{"value": "a"}]}}, "needs operator Exists"),
        ({"Lab": {"base": "cpu"}}, "String should match pattern"),
    ],
)
def test_a_flawed_profile_is_told(profiles: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=r"profiles") as told:
        parsed(**profiles)
    assert said in str(told.value)
