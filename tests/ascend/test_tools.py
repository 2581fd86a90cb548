"""How long a tool of others may be silent, and what is ended with it."""

import subprocess
import sys
import time

import pytest

from detport import runs
from detport.ascend import tools
from detport.config import ROOT
from detport.errors import Failure

QUICK = 0.006  # minutes


def run(tmp_path, script: str, minutes: float = QUICK) -> tuple[int, str]:
    return tools.run(["bash", "-c", script], tmp_path, minutes, "the.log", lambda text: None)


def test_a_tool_that_goes_on_talking_may_take_any_time(tmp_path):
    begin = time.monotonic()
    assert run(tmp_path, "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; exit 3") == (3, "1\n2\n3\n4\n5\n6\n")
    assert time.monotonic() - begin > 2 * 60 * QUICK


def test_what_it_says_comes_at_once_and_in_any_encoding(tmp_path):
    told = []
    script = r"printf 'a\r\n\xff\xe4\xb8'; sleep 0.2; printf '\xad\n'; echo e >&2"
    status, said = tools.run(["bash", "-c", script], tmp_path, 1, "the.log", told.append)
    assert (status, said) == (0, "a\n\ufffd中\ne\n")
    assert len(told) > 1
    assert "".join(told) == said


@pytest.mark.parametrize(
    "script",
    ["echo begun; sleep 600", "echo begun; (setsid sleep 600 & wait)", "echo begun; exec >&- 2>&-; sleep 600"],
    ids=["silent", "its child in a session of its own", "its output is closed"],
)
def test_silence_ends_a_tool_and_all_that_it_has_started(tmp_path, monkeypatch, script):
    monkeypatch.setattr(tools.secrets, "token_hex", lambda _: f"test {tmp_path}")
    with pytest.raises(
        Failure, match=r"^bash said nothing for 0\.006 minutes after 'begun' and was ended.*; the log is the\.log\. "
    ):
        run(tmp_path, script)
    assert runs.orphans(f"test {tmp_path}", tools.VARIABLE) == []


def test_a_module_is_named_and_not_its_python(tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    with pytest.raises(Failure, match=r"^python -m slow said nothing for 0\.006 minutes and was ended"):
        tools.run(["python", "-m", "slow", "--fast"], tmp_path, QUICK, "the.log", print)


def test_a_tool_that_has_ended_is_not_waited_for_because_of_what_it_left(tmp_path):
    """A daemon that it has started holds the other end of the pipe."""
    begin = time.monotonic()
    assert run(tmp_path, "sleep 20 & echo done", minutes=1) == (0, "done\n")
    assert time.monotonic() - begin < 10


def test_a_stage_that_is_stopped_by_hand_ends_its_tool(tmp_path, monkeypatch):
    monkeypatch.setattr(tools.secrets, "token_hex", lambda _: f"test {tmp_path}")

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tools.run(["bash", "-c", "echo begun; sleep 600"], tmp_path, 1, "the.log", interrupt)
    assert runs.orphans(f"test {tmp_path}", tools.VARIABLE) == []


def test_where_the_lines_of_a_stage_go(tmp_path):
    code = f"import sys; sys.path.append({str(ROOT / 'scripts')!r}); from detport import cli; print(cli.own_log())"
    with (tmp_path / "a log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log, cwd=tmp_path, check=True
        )
    assert done.stdout == b"a log\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"on the terminal\n"
