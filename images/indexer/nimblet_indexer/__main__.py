# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_indexer --config FILE`: one build, its report as termination message. Wires the parts."""

import argparse
import logging
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from pydantic import ValidationError

from nimblet_indexer.build import run_build
from nimblet_indexer.config import read_config
from nimblet_indexer.report import FileError, Report, report_text
from nimblet_indexer.retriever import RetrieverClient, RetrieverError

log = logging.getLogger("nimblet_indexer")


class Exit(IntEnum):
    """Exit codes, for a guest that can't send messages out."""

    BUILT = 0
    FAILED = 1
    CONFIG = 2
    SOURCE = 3
    RETRIEVER = 4


def main(argv: Sequence[str]) -> int:
    """Run one build and leave its report."""
    parser = argparse.ArgumentParser(
        prog="python -m nimblet_indexer",
        description="Builds one generation of an index. Exit codes: 0 built, 2 wrong configuration, 3 a source is "
        "not there, 4 the retriever refused or stayed away.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON, rendered by the operator"
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="where the report is left",
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines tell every request
    code, report = _run(options.config)
    options.report.write_text(report_text(report), encoding="utf-8")
    return code


def _run(path: Path) -> tuple[Exit, Report]:
    try:
        config = read_config(path)
    except (OSError, ValidationError) as error:
        return Exit.CONFIG, _failed("", "ConfigInvalid", f"{path}: {error}")
    try:
        with RetrieverClient(config.retriever) as client:
            report = run_build(config, client)
    except OSError as error:
        return Exit.SOURCE, _failed(config.generation, "SourceUnavailable", str(error))
    except RetrieverError as error:
        return Exit.RETRIEVER, _failed(config.generation, error.reason, str(error))
    log.info(
        "%s: %d documents, %d passages (%d embedded), %d files left out",
        report.generation,
        report.documents,
        report.passages,
        report.embedded,
        report.refused,
    )
    return Exit.BUILT, report


def _failed(generation: str, reason: str, message: str) -> Report:
    log.error("%s: %s", reason, message)
    return Report(generation=generation, error=FileError(file="", reason=reason, message=message[:1000]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
