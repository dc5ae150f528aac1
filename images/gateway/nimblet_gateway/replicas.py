# SPDX-License-Identifier: Apache-2.0
"""How many gateways share the limits: the configuration file's number, which a scale changes in place.

Nothing else of the file is read again: any other change is a new configuration, and a new pod.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nimblet_gateway.config import read_config
from nimblet_tls.stamp import stamp_of

log = logging.getLogger(__name__)
LOOK_SECONDS: Final = 5.0
"""How old a look at the file may be; the kubelet brings a changed one within about a minute."""


class Replicas:
    """Call it for the number."""

    def __init__(self, path: Path, *, known: int, clock: Callable[[], float]) -> None:
        self._path = path
        self._known = known
        self._clock = clock
        self._looked = clock()
        self._seen = stamp_of(path)

    def __call__(self) -> int:
        """Return the number; one that can't be read leaves the last one."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._known

    def _look(self) -> None:
        seen = stamp_of(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._known = read_config(self._path).replicas
        except (OSError, ValidationError) as error:
            kind = type(error).__name__
            log.error("%s can't be read again (%s): limits stay divided by %d", self._path, kind, self._known)  # noqa: TRY400
            return
        log.info("limits are divided by %d from now on", self._known)
