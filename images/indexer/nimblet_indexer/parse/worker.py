# SPDX-License-Identifier: Apache-2.0
"""A process that parses files, so that no file can hurt the indexer: memory and time of each are limited.

Parsers are where hostile files strike. The process reads a path, opens the file itself and answers with the
parsed document or the refusal; one that hangs is killed, one that dies is made anew for the next file.
"""

import hashlib
import resource
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final, Self

from nimblet_indexer.document import FileRefused, Parsed, Refusal
from nimblet_indexer.limited import fork_server
from nimblet_indexer.plainfile import read_plain

START_SECONDS: Final = 60.0
"""For the interpreter and the parsers' imports, on a busy node."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one file. `memory_bytes` is the process's address space, of which it needs about 300 MiB itself."""

    file_bytes: int = 64 * 2**20
    memory_bytes: int = 2 * 2**30
    seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class ParsedFile:
    """A file as it was read: its document, and the SHA-256 of its bytes in hex."""

    document: Parsed
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Refused:
    reason: Refusal
    message: str


class ParserProcess:
    """Parses one file after another. Use it as a context manager; not for two threads at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._context = fork_server()
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        """Start nothing yet: the first file does."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._end()

    def parse(self, path: Path, *, name: str) -> ParsedFile:
        """Return the parsed file. FileRefused, whatever the file does."""
        size = path.stat().st_size
        if size > self._limits.file_bytes:
            raise FileRefused(
                Refusal.TOO_LARGE,
                f"it has {size // 2**20} MiB, {self._limits.file_bytes // 2**20} MiB are read; split it",
            )
        pipe = self._started()
        pipe.send((str(path), name))
        if not pipe.poll(self._limits.seconds):
            self._end()
            raise FileRefused(Refusal.TIMED_OUT, f"it was not parsed within {self._limits.seconds:g} s; split it")
        try:
            answer: ParsedFile | _Refused = pipe.recv()
        except EOFError:
            code = self._end()
            raise FileRefused(
                Refusal.PARSER_DIED, f"its parser ended with exit code {code}, out of memory perhaps; split it"
            ) from None
        if isinstance(answer, _Refused):
            raise FileRefused(answer.reason, answer.message)
        return answer

    def _started(self) -> Connection:
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self._end()
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._limits.memory_bytes), daemon=True, name="parser"
        )
        self._process.start()
        theirs.close()
        if not ours.poll(START_SECONDS):
            raise TimeoutError(f"the parser process did not start within {START_SECONDS:g} s")
        ours.recv()
        self._pipe = ours
        return ours

    def _end(self) -> int | None:
        """End the process if there is one; return its exit code."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is None:
            return None
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self._process = None
        return code


def _serve(pipe: Connection, memory_bytes: int) -> None:
    """Parse what is asked for until the pipe ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        try:
            path, name = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(Path(path), name))


def _answer(path: Path, name: str) -> ParsedFile | _Refused:
    # the server that forks these processes has the parsers loaded; who only starts them needs none
    from nimblet_indexer.parse.file import parse_file  # noqa: PLC0415

    try:
        data = read_plain(path)
        return ParsedFile(document=parse_file(name, data), sha256=hashlib.sha256(data).hexdigest())
    except FileRefused as refused:
        return _Refused(reason=refused.reason, message=refused.message)
    except MemoryError:
        return _Refused(reason=Refusal.EXPANDS_TOO_MUCH, message="its parser ran out of memory; split it")
    except Exception as error:  # noqa: BLE001 - a parser's defect on one file must not stop the others
        # its kind alone: what a parser says may quote the document, and this ends in a status
        return _Refused(
            reason=Refusal.DAMAGED, message=f"its parser failed ({type(error).__name__}); save it again"
        )
