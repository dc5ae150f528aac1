# SPDX-License-Identifier: Apache-2.0
"""Takes a model's thoughts out of its answer while it streams. Pure; holds back no more than a tag's length."""

from dataclasses import dataclass, field
from typing import Final

OPENING: Final = ("<think>", "<thinking>")
CLOSING: Final = ("</think>", "</thinking>")


@dataclass
class ThinkFilter:
    """Feed it what streams in; it returns what is to be read. What was begun and never ended is a thought too."""

    _held: str = ""
    _thinking: bool = False
    _at_start: bool = field(default=True)

    @property
    def thinking(self) -> bool:
        """Whether what comes next is a thought."""
        return self._thinking

    def feed(self, text: str) -> str:
        """Return the part of all text so far that is certainly no thought and was not returned before."""
        self._held += text
        passed = []
        while True:
            tags = CLOSING if self._thinking else OPENING
            found = min((at for tag in tags if (at := self._held.find(tag)) >= 0), default=-1)
            if found < 0:
                break
            tag = next(tag for tag in tags if self._held.startswith(tag, found))
            if not self._thinking:
                passed.append(self._held[:found])
            self._held, self._thinking = self._held[found + len(tag) :], not self._thinking
        keep = _partial(self._held, CLOSING if self._thinking else OPENING)
        if not self._thinking:
            passed.append(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]
        return self._trimmed("".join(passed))

    def finish(self) -> str:
        """Return what was held back as a possible beginning of a tag."""
        rest = "" if self._thinking else self._held
        self._held = ""
        return self._trimmed(rest)

    def _trimmed(self, text: str) -> str:
        """Drop white space before the first word, which follows a thought."""
        if self._at_start:
            text = text.lstrip()
            self._at_start = not text
        return text


def _partial(text: str, tags: tuple[str, ...]) -> int:
    """Return the length of the longest end of a text that begins a tag."""
    longest = min(len(text), max(map(len, tags)) - 1)
    return next((n for n in range(longest, 0, -1) if any(tag.startswith(text[-n:]) for tag in tags)), 0)
