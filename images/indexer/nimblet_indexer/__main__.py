# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_indexer --config FILE`: one build, its report as termination message. Wires the parts."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from traceback import extract_tb
from types import FrameType

from pydantic import ValidationError

from nimblet_egress.errors import Reason, redact
from nimblet_egress.retry import Pace
from nimblet_indexer.build import Build, Ending
from nimblet_indexer.config import IndexerConfig, read_config
from nimblet_indexer.limited import start_fork_server
from nimblet_indexer.outcome import TERMINATED, BuildFailed, Outcome
from nimblet_indexer.progress import BuildProgress, served
from nimblet_indexer.report import Failure, Report, report_text
from nimblet_indexer.retriever import RetrieverClient
from nimblet_indexer.source.download import Tools
from nimblet_indexer.source.readers import Readers
from nimblet_tls.folder import TLSError, TLSFolder

TRIES = 3
"""Of each request to a source; the operator makes the next build when they do not do."""

log = logging.getLogger("nimblet_indexer")


def main(argv: Sequence[str]) -> int:
    """Run one build and leave its report; the exit code is the reason's."""
    options = _options(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines tell every request
    signal.signal(signal.SIGTERM, _stop)
    try:
        config = read_config(options.config)
    except (OSError, ValidationError) as error:
        return _leave(options.report, _unreadable(options.config, error), Reason.ConfigInvalid.exit_code)
    try:
        trusted = TLSFolder(options.tls).client() if options.tls is not None else True
    except TLSError as error:
        unready = Failure(reason=Reason.ConfigInvalid.name, message=f"{error}.")
        return _leave(options.report, Report(generation="", error=unready), Reason.ConfigInvalid.exit_code)
    start_fork_server()
    progress = BuildProgress()
    with served(progress, options.progress_port), RetrieverClient(config.retriever, tls=trusted) as client:
        ending = _build(config, client, progress)
    code = 0 if ending.failed is None else ending.failed.reason.exit_code
    return _leave(options.report, ending.report, code)


def _build(config: IndexerConfig, client: RetrieverClient, progress: BuildProgress) -> Ending:
    tools = Tools(scratch=config.scratch, limits=config.limits, pace=Pace(attempts=TRIES))
    with closing(Readers(config.egress, tools)) as readers:
        build = Build(config=config, client=client, readers=readers, progress=progress)
        try:
            ending = build.run()
        except Exception as error:  # noqa: BLE001 - the last line: a reason is told, whatever broke
            log.error("unexpected: %s at %s", type(error).__name__, _places(error))  # noqa: TRY400 - values may be text
            message = f"The indexer met a defect of its own: {type(error).__name__}. Report it with the pod's log."
            failed = BuildFailed(Reason.Internal, message)
            ending = Ending(report=build.report(failed), failed=failed)
        return _redacted(ending, readers.secrets)


def _places(error: BaseException) -> str:
    """Return where an error came from, without its words: they may be a document's."""
    return ", ".join(f"{Path(step.filename).name}:{step.lineno}" for step in extract_tb(error.__traceback__))


def _redacted(ending: Ending, secrets: Sequence[str]) -> Ending:
    error = ending.report.error
    if error is None:
        return ending
    shown = error.model_copy(update={"message": redact(error.message, secrets)})
    return Ending(report=ending.report.model_copy(update={"error": shown}), failed=ending.failed)


def _unreadable(path: Path, error: OSError | ValidationError) -> Report:
    if isinstance(error, ValidationError):  # places and flaws; values may be anything
        flaws = [f"{'.'.join(map(str, flaw['loc']))}: {flaw['msg']}" for flaw in error.errors()[:5]]
        found = "; ".join(flaws)
    else:
        found = f"it can't be read ({type(error).__name__})"
    message = f"Expected a configuration of version 1 in {path}; {found}. Run operator and indexer of one release."
    return Report(generation="", error=Failure(reason=Reason.ConfigInvalid.name, message=message))


def _leave(path: Path, report: Report, code: int) -> int:
    if report.error is not None:
        log.error("%s: %s", report.error.reason, report.error.message)
    log.info(
        "%s: %d documents, %d passages (%d embedded), %d files left out, %s",
        report.generation,
        report.documents,
        report.passages,
        report.embedded,
        report.refused,
        "serves" if report.served else "does not serve",
    )
    path.write_text(report_text(report), encoding="utf-8")
    return code


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    """End at once: what was handed over is durable, and a build that runs again finds it."""
    os.write(sys.stderr.fileno(), b"asked to stop; what was handed over stays for the next try\n")
    os._exit(TERMINATED)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    outcomes = [*Reason, *Outcome]
    codes = ", ".join(f"{reason.exit_code} {reason.name}" for reason in outcomes)
    parser = argparse.ArgumentParser(
        prog="python -m nimblet_indexer",
        description=f"Builds one generation of an index. Exit codes: 0 done, {TERMINATED} stopped, {codes}.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON, rendered by the operator"
    )
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="trust the authorities mounted there alone")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="where the report is left",
    )
    parser.add_argument(
        "--progress-port", type=int, default=8081, metavar="PORT", help="of /progress and /metrics; 0: none"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
