# SPDX-License-Identifier: Apache-2.0
"""What is known of model, guard and indexes: by probes and by the requests themselves. State only, no I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nimblet_gateway.telemetry import Metrics
from nimblet_gateway.web import Failed


@dataclass(frozen=True, kw_only=True)
class State:
    """One dependency. `since` is when it became what it is."""

    ok: bool
    since: float
    reason: str = "Ok"
    message: str = ""
    generation: str | None = None
    parameters: int | None = None
    """A model's number of weights, where its server tells it."""


class Health:
    """All dependencies by name: `model`, `fallback`, `guard`, `index/<name>`."""

    def __init__(self, names: Sequence[str], *, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._metrics = metrics
        unknown = State(ok=False, since=clock(), reason="NotAskedYet", message="not asked yet")
        self._states = dict.fromkeys(names, unknown)
        self.recoveries = 0
        """How often a dependency came (back) or was doubted: the self-test has something to test."""

    def state(self, name: str) -> State:
        """Return what is known."""
        return self._states[name]

    def succeeded(self, name: str, *, generation: str | None = None, parameters: int | None = None) -> None:
        """Note that a dependency answered."""
        old = self._states[name]
        parameters = old.parameters if parameters is None else parameters
        if old.ok:
            self._states[name] = replace(old, generation=generation, parameters=parameters)
            return
        self._states[name] = State(ok=True, since=self._clock(), generation=generation, parameters=parameters)
        self._metrics.ready.labels(name).set(1)
        self.recoveries += 1

    def failed(self, name: str, failed: Failed) -> None:
        """Note that it did not, and why."""
        old = self._states[name]
        since = self._clock() if old.ok else old.since
        self._states[name] = replace(old, ok=False, since=since, reason=failed.reason, message=failed.message)
        self._metrics.ready.labels(name).set(0)

    def doubt(self) -> None:
        """Note that the self-test should run again: something failed that a request may have been the cause of."""
        self.recoveries += 1

    def may_be_restarting(self, name: str, seconds: float) -> bool:
        """Tell whether it answers, or stopped less than so long ago."""
        state = self._states[name]
        return state.ok or self._clock() - state.since < seconds
