# SPDX-License-Identifier: Apache-2.0
"""What all tests of the repository share: how they are spread over pytest's workers. It holds no fixture."""

from hypothesis import settings

pytest_plugins = ("tests.lanes",)

# an example has no deadline: whatever else runs beside may hold one up for seconds
settings.register_profile("nimblet", deadline=None)
settings.load_profile("nimblet")
