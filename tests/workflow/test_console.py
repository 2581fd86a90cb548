"""What a run shows in a pipe and on a terminal, of the workflow's own rules; its stages are stand-ins."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import terminal
from runs import reduced_demo
from stages import with_stand_ins

TARGET = "reports/retinamask.txt"
ENVIRONMENT = os.environ | {"TERM": "xterm"}


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str | Path]:
    top = tmp_path_factory.mktemp("console")
    folder, repository = reduced_demo(top / "demo", "retinamask"), with_stand_ins(top / "repository")
    start = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder]
    return [*start, "--cores", "2"]


def test_in_a_pipe_a_few_lines_and_the_result(command):
    """And when there is nothing to do, the result all the same."""
    first, again = (
        subprocess.run([*command, TARGET], capture_output=True, text=True, timeout=300, check=False) for _ in range(2)
    )
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == ""
    told = [line for line in first.stderr.splitlines() if line.startswith("detport: ")]
    assert re.fullmatch(r"detport: 1\d jobs: .*2 infer, .*2 decode, .*; no estimate yet", told[0])
    assert told[-1] == "detport: m: NO GATES: reports/retinamask.txt"
    assert len(first.stderr.splitlines()) < 12 and "\x1b" not in first.stderr
    assert "Nothing to be done" in again.stderr and told[-1] in again.stderr


def test_on_a_terminal_one_view_that_is_gone_at_the_end(command):
    seen = set()

    def look(shown: terminal.Terminal, stream: int) -> None:
        seen.add(shown.text())

    environment = ENVIRONMENT | {"STAND_IN_SECONDS": "3"}
    status, shown, _ = terminal.run([*command, "-R", "infer", "--", TARGET], environment, look)
    assert status == 0, shown.text()
    (view, *_) = [text for text in seen if "infer 0 of 2 shards" in text]
    assert re.search(r"\n\ndetport: 0 of \d jobs done, .*\n  retinamask/onnxruntime: infer 0 of 2 shards, \d s$", view)
    assert "jobs done" not in shown.text() and not shown.unknown
    assert "\ndetport: m: NO GATES: reports/retinamask.txt\n" in shown.text()


def test_an_interrupted_run_leaves_the_terminal_in_order(command):
    """In the middle of the model's run, by the key."""
    pressed = []

    def press(shown: terminal.Terminal, stream: int) -> None:
        if "infer 0 of 2 shards" in shown.text() and not pressed:
            pressed.append(os.write(stream, b"\x03"))

    environment = ENVIRONMENT | {"STAND_IN_WAITS_FOR": "never", "NO_COLOR": "1"}
    status, shown, written = terminal.run([*command, "-R", "infer", "--", TARGET], environment, press)
    assert (status, pressed) == (1, [1])
    assert "Terminating processes on user request" in shown.text()
    assert "jobs done" not in shown.text() and shown.x == 0
    assert set(re.findall(r"\x1b\[[^A-Za-z]*([A-Za-z])", written)) == {"J", "A"}, "no colour, and nothing to set back"
