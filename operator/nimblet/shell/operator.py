# SPDX-License-Identifier: Apache-2.0
"""Wires the operator together and runs it: lease, mirror, watches, queue, resync, HTTP port.

Crash-only: a part that fails ends the process, and a new one learns everything again from the cluster.
"""

import asyncio
import logging
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import Final

from nimblet import __version__
from nimblet.cluster.authority import AuthorityError
from nimblet.cluster.client import Client, connect
from nimblet.cluster.contest import ContestLedger
from nimblet.cluster.errors import ApiError, LeadershipLost, NotConfigured
from nimblet.cluster.facts import Gatherer
from nimblet.cluster.key import Key
from nimblet.cluster.lease import Lease, LeaseOptions
from nimblet.cluster.login import read_login
from nimblet.cluster.masterkey import KEY_BYTES, MasterKeyError, get_master_key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observe import PodUrl, pod_url
from nimblet.cluster.patience import patiently
from nimblet.shell.asking import Askers, asking
from nimblet.shell.certificates import Certification, ready_certification
from nimblet.shell.ending import Ending
from nimblet.shell.handlers import Intake, registry_for, watch, watch_settings
from nimblet.shell.kinds import kinds_of
from nimblet.shell.metrics import Metrics, StateCollector
from nimblet.shell.notice import Notice
from nimblet.shell.options import Options
from nimblet.shell.queue import Queue
from nimblet.shell.reconcile import Reconciler
from nimblet.shell.resync import Resync
from nimblet.shell.server import Limits, Signs, Verdict, application, liveness, readiness, serve

MISSED_RESYNCS: Final = 2.5
"""Resync intervals without a good one after which the process calls itself dead."""
REST_SECONDS: Final = 0.2
"""Between two passes over one resource: a pod alone brings half a dozen events on its way."""
GRACE_SECONDS: Final = 120.0
QUEUE_LIMIT_SECONDS: Final = 300.0
LEASE_LIMIT_SECONDS: Final = 60.0
RELEASE_SECONDS: Final = 3.0
"""For giving up the lease at the end; a standby waits for 15 s where it fails."""
GOODBYE_SECONDS: Final = 0.25
"""TLS connections end by an exchange that aiohttp awaits only for those that nobody used; watches are in use."""
CHECK_SECONDS: Final = 10.0
DEAD_SECONDS: Final = 60.0
"""How long the process may call itself dead before it ends itself; a kubelet that probes ends it after 30 s."""

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit codes; `python -m nimblet --help` lists them."""

    STOPPED = 0
    FAILED = 1
    OPTIONS = 2
    LEADERSHIP_LOST = 3


@dataclass(kw_only=True)
class Operator:
    """The parts that live as long as the process; everything else is made when it leads."""

    options: Options
    metrics: Metrics
    queue: Queue
    mirror: Mirror
    rng: random.Random
    url_of: PodUrl = pod_url
    ending: Ending = field(default_factory=Ending)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None
    resync: Resync | None = None
    lease: Lease | None = None
    leads: bool = False
    started: float = 0.0

    def signs(self) -> Signs:
        """Return the signs of life that the probes judge."""
        now = asyncio.get_running_loop().time()
        return Signs(
            leads=self.leads,
            running=now - self.started,
            resync=self.resync.age() if self.resync is not None else None,
            queue=self.queue.idle_age(now),
            lease=self.lease.silence() if self.lease is not None else None,
        )

    def live(self) -> Verdict:
        """Judge whether the process still works."""
        limits = Limits(
            resync=MISSED_RESYNCS * self.options.settings.timing.resync_seconds + GRACE_SECONDS,
            queue=QUEUE_LIMIT_SECONDS,
            lease=LEASE_LIMIT_SECONDS,
        )
        return liveness(self.signs(), limits)

    def fail(self, error: BaseException) -> None:
        """End the process for this reason; the first one counts."""
        self.failure = self.failure or error
        self.halt()

    def halt(self) -> None:
        """End the process; from now on it has little time."""
        self.begin_to_end()
        self.stop.set()

    def begin_to_end(self) -> None:
        """Start the clock; one that has to be ended by it has failed, whatever the reason was."""
        self.ending.begin(lambda: _code(self.failure) or Exit.FAILED)

    def on_error(self, key: Key, error: Exception, delay: float) -> None:
        """Tell of a turn that raised: known errors in a line, others with their traceback."""
        self.metrics.reconcile_errors.labels(kind=key.kind, error=type(error).__name__).inc()
        if isinstance(error, LeadershipLost):
            self.fail(error)
        elif isinstance(error, ApiError):
            log.warning("%s: next try in %.0f s: %s", key, delay, error)
        else:
            log.error("%s: next try in %.0f s", key, delay, exc_info=error)

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT end the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.halt)


async def run_operator(options: Options, *, url_of: PodUrl = pod_url) -> Exit:
    """Run until a signal, a failure or the loss of leadership; return the exit code."""
    rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not secrets
    operator = Operator(
        options=options,
        metrics=Metrics(),
        queue=Queue(rng=rng, rest=REST_SECONDS),
        mirror=Mirror(),
        rng=rng,
        url_of=url_of,
    )
    operator.started = asyncio.get_running_loop().time()
    operator.take_signals()
    log.info("nimblet %s starts", __version__)
    async with AsyncExitStack() as stack:
        try:
            client = await connect(options.kubeconfig)
        except NotConfigured as error:
            log.error("no cluster: %s", error)  # noqa: TRY400 - the message says it all
            return Exit.OPTIONS
        stack.push_async_callback(client.close)
        await stack.enter_async_context(_http(operator))
        stack.push_async_callback(asyncio.sleep, GOODBYE_SECONDS)
        try:
            await _until_stopped(operator, _lead(operator, client))
        except (ApiError, AuthorityError, MasterKeyError) as error:
            log.error("the operator can't go on: %s", error)  # noqa: TRY400 - the message says it all
            return Exit.FAILED
    return _verdict(operator)


def _verdict(operator: Operator) -> Exit:
    code = _code(operator.failure)
    if code is Exit.STOPPED:
        log.info("stopped")
    elif code is Exit.LEADERSHIP_LOST:
        log.error("leadership lost: %s", operator.failure)
    else:
        log.critical("the operator failed", exc_info=operator.failure)
    return code


def _code(failure: BaseException | None) -> Exit:
    if failure is None:
        return Exit.STOPPED
    return Exit.LEADERSHIP_LOST if isinstance(failure, LeadershipLost) else Exit.FAILED


async def end_when_dead(live: Callable[[], Verdict], fail: Callable[[BaseException], None]) -> None:
    """Call `fail` once the process has called itself dead for long: not everyone who runs it asks its probe.

    Looks are counted, not seconds: a process or machine that stood still has had no time to come to life again.
    """
    dead = 0.0
    while dead < DEAD_SECONDS:
        await asyncio.sleep(CHECK_SECONDS)
        verdict = live()
        dead = 0.0 if verdict.ok else dead + CHECK_SECONDS
    fail(RuntimeError(f"dead by its own judgement for {DEAD_SECONDS:.0f} s: {verdict.why}"))


async def _until_stopped(operator: Operator, main: Awaitable[None]) -> None:
    """Await `main`, and cancel it when the stop event is set."""
    task = asyncio.ensure_future(main)
    stop = asyncio.create_task(operator.stop.wait())
    check = asyncio.create_task(end_when_dead(operator.live, operator.fail))
    await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
    operator.begin_to_end()
    stop.cancel()
    check.cancel()
    if not task.done():
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        log.debug("ended by the stop event")
    except LeadershipLost as error:
        operator.fail(error)


@asynccontextmanager
async def _http(operator: Operator) -> AsyncIterator[None]:
    loop, options = asyncio.get_running_loop(), operator.options
    operator.metrics.registry.register(
        StateCollector(
            queue=operator.queue,
            mirror=operator.mirror,
            clock=loop.time,
            resync_age=lambda: operator.resync.age() if operator.resync is not None else None,
        )
    )
    app = application(
        registry=operator.metrics.registry,
        live=operator.live,
        ready=lambda: readiness(operator.signs()),
    )
    runner = await serve(app, port=options.metrics_port)
    log.info("metrics and probes on port %s", ", ".join(str(address[1]) for address in runner.addresses[:1]))
    try:
        yield
    finally:
        await runner.cleanup()


async def _lead(operator: Operator, client: Client) -> None:
    """Take the lease, then work; without election work at once."""
    if not operator.options.leader_election:
        await _work(operator, client)
        return
    identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    namespace = operator.options.settings.access.operator_namespace
    lease = operator.lease = Lease(client, LeaseOptions(namespace=namespace, identity=identity))
    await lease.acquire()
    keeper = asyncio.create_task(lease.keep())
    keeper.add_done_callback(lambda task: None if task.cancelled() else operator.fail(_error_of(task)))
    try:
        await _work(operator, client.guarded(lease.guard))
    finally:
        keeper.cancel()
        await asyncio.wait((keeper,))
        await _release(lease)


async def _release(lease: Lease) -> None:
    try:
        async with asyncio.timeout(RELEASE_SECONDS):
            await lease.release()
    except (ApiError, TimeoutError) as error:
        log.warning("the lease could not be given up, it runs out by itself: %s", error)


async def _work(operator: Operator, client: Client) -> None:
    """Read the cluster, then watch, reconcile and resync until cancelled or until a part fails."""
    operator.leads = True
    operator.metrics.leader.set(1)
    options, timing = operator.options, operator.options.settings.timing
    loop = asyncio.get_running_loop()
    master = await patiently(
        partial(
            get_master_key,
            client,
            namespace=options.settings.access.operator_namespace,
            fresh=secrets.token_bytes(KEY_BYTES),
        ),
        what="the master key",
    )
    certification = await ready_certification(
        client, options.settings, operator.mirror, now=partial(datetime.now, UTC)
    )
    server_minor = await patiently(client.server_minor, what="the API server's version")
    operator.resync = Resync(
        client=client,
        mirror=operator.mirror,
        queue=operator.queue,
        namespaces=options.namespaces,
        interval=float(timing.resync_seconds),
        rng=operator.rng,
        clock=loop.time,
        metrics=operator.metrics,
    )
    trust = certification.trust
    async with asking(operator.options.settings.timing, askers_of(operator), trust=trust) as (observer, poller):
        gatherer = Gatherer(
            client=client,
            mirror=operator.mirror,
            observer=observer,
            poller=poller,
            master_key=master,
            server_minor=server_minor,
            operator_namespace=options.settings.access.operator_namespace,
            certifier=certification.certifier,
            requests=certification.requests,
        )
        reconciler = Reconciler(
            kinds=kinds_of(gatherer, options.settings),
            gatherer=gatherer,
            settings=options.settings,
            metrics=operator.metrics,
            now=partial(datetime.now, UTC),
            contests=ContestLedger(),
        )
        await patiently(partial(operator.resync.once, spread=0.0), what="the first read of the cluster")
        log.info("read the cluster: %d objects", sum(operator.mirror.sizes().values()))
        await _run_parts(operator, reconciler, certification)


def askers_of(operator: Operator) -> Askers:
    """Return what those who ask our pods need of this process."""
    return Askers(wake=operator.queue.add, fail=operator.fail, rng=operator.rng, url_of=operator.url_of)


async def _run_parts(operator: Operator, reconciler: Reconciler, certification: Certification) -> None:
    """Run queue, resync and watches; when one ends, or this is cancelled, end all, the watches last."""
    if operator.resync is None:
        raise RuntimeError("expected a resync to have been made before the parts run")
    ended = asyncio.Event()
    notice = Notice(
        client=reconciler.gatherer.client,
        referents=reconciler.gatherer.referents,
        namespaces=operator.options.namespaces,
        wake=operator.queue.add,
    )
    registry = registry_for(
        Intake(mirror=operator.mirror, queue=operator.queue, listing=operator.resync.soon),
        login=partial(read_login, operator.options.kubeconfig),
    )
    # in this order: each of the queue's workers must be there before kopf looks which tasks are not its own
    workers = [
        asyncio.create_task(operator.queue.run(reconciler.reconcile, on_error=operator.on_error), name="queue"),
        asyncio.create_task(operator.resync.run(), name="resync"),
        asyncio.create_task(notice.run(), name="notice"),
    ]
    interval = float(operator.options.settings.timing.resync_seconds)
    kept = certification.loops(wake=operator.queue.add, interval=interval)
    workers += [asyncio.create_task(loop, name=name) for name, loop in kept.items()]
    watches = asyncio.create_task(
        watch(
            registry,
            settings=watch_settings(),
            namespaces=operator.options.namespaces,
            stop=ended,
            started=operator.take_signals,
        ),
        name="watches",
    )
    try:
        await asyncio.wait((*workers, watches), return_when=asyncio.FIRST_COMPLETED)
    finally:
        failed = [task for task in (*workers, watches) if task.done()]
        operator.begin_to_end()
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        ended.set()
        await asyncio.wait((watches,))
        # not before: it cancels who waits here
        for task in failed:
            operator.fail(_error_of(task))


def _error_of(task: "asyncio.Task[None]") -> BaseException:
    return task.exception() or RuntimeError(f"expected {task.get_name()} to run for ever, and it ended")
