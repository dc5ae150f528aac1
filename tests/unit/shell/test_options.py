# SPDX-License-Identifier: Apache-2.0
"""The command line, the settings file, the log lines."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from nimblet.shell.logs import JsonLines
from nimblet.shell.options import OptionsError, parse_options

START_SECONDS = 100
"""A process may take a minute to start where the machine is busy."""


def test_the_settings_file_and_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("timing: {resyncSeconds: 30}\nwatchNamespaces: [b, a]\n", encoding="utf-8")
    options = parse_options(["--settings", str(path), "--no-leader-election"], {"KUBECONFIG": "/k"})
    assert options.settings.timing.resync_seconds == 30
    assert (options.kubeconfig, options.leader_election) == (Path("/k"), False)
    assert options.namespaces == ("b", "a")


def test_flags_go_before_environment_and_settings() -> None:
    argv = ["--kubeconfig", "/mine", "--namespace", "y", "--namespace", "x", "--metrics-port", "0"]
    options = parse_options(argv, {"KUBECONFIG": "/k"})
    assert (options.kubeconfig, options.namespaces, options.metrics_port) == (Path("/mine"), ("x", "y"), 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [("timing: {resyncSecond: 30}", "timing.resyncSecond"), ("timing: [", "YAML"), ("- a", "dictionary")],
)
def test_a_wrong_settings_file_says_what_is_wrong(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(OptionsError, match=words):
        parse_options(["--settings", str(path)], {})


def test_a_missing_settings_file_ends_the_program_with_two() -> None:
    argv = [sys.executable, "-m", "nimblet", "--settings", "/nowhere.yaml"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert ended.returncode == 2
    assert "/nowhere.yaml" in ended.stderr


def test_help_documents_every_flag() -> None:
    argv = [sys.executable, "-m", "nimblet", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, timeout=START_SECONDS, check=True).stdout
    for flag in (
        "--settings",
        "--namespace",
        "--metrics-port",
        "--kubeconfig",
        "--no-leader-election",
        "--log-format",
    ):
        assert flag in text


def test_a_json_entry_is_one_line() -> None:
    record = logging.LogRecord("nimblet", logging.INFO, __file__, 1, "%s: two\nlines", ("a",), None)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "a: two\nlines"
