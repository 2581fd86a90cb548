"""What a person or a log sees of a run: on a terminal as the test's emulator shows it, and in a pipe."""

import io
import os
from pathlib import Path

import pytest

from detport.console import live, screen
from detport.console.jobs import Job
from terminal import Terminal


class Stream(io.StringIO):
    """A stream that is a terminal, or is none."""

    encoding, errors = "utf-8", "strict"

    def __init__(self, tty: bool = True, columns: int = 80, rows: int = 24):
        super().__init__()
        self.tty, self.columns, self.rows = tty, columns, rows

    def isatty(self) -> bool:
        return self.tty

    def shown(self) -> str:
        """What a person sees; the emulator knows every control that was used."""
        terminal = Terminal(self.columns, self.rows)
        terminal.feed(self.getvalue().replace("\n", "\r\n"))
        assert not terminal.unknown
        return terminal.text()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A run of 16 shards of 20 images, export before and evaluate behind them, as Snakemake would tell of it."""

    def __init__(self, folder: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("TERM", "xterm")
        size = os.terminal_size((stream.columns, stream.rows))
        monkeypatch.setattr(screen.Screen, "size", lambda self: size)
        monkeypatch.setattr(live.Console, "run", lambda self: None)  # the tests say when it is time to show
        self.folder, self.stream, self.clock = folder, stream, Clock()
        self.console = live.Console(lambda: None, self.clock)
        self.console.attach(stream, Path("snakemake.log"), folder)
        self.jobs = [job(0, "export", {"model": "m", "flavour": "standard", "canvas": ""})]
        self.jobs += [
            job(i, "detect", {"model": "m", "backend": "b", "shard": f"{i - 1:04d}"}, images=20) for i in range(1, 17)
        ]
        self.jobs += [job(17, "evaluate", {"model": "m", "backend": "b"}, needs=range(1, 17))]

    def begin(self, places: int = 2) -> None:
        self.console.begin(self.jobs, places)

    def write(self, number: int, *lines: str) -> None:
        """Lines in the log of a job."""
        path = Path(self.jobs[number].log[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"2026-01-01 10:00:00,000 {line}\n" for line in lines), encoding="utf-8")
        os.utime(path, (self.clock.now, self.clock.now))

    def do(self, *numbers: int, seconds: float = 10) -> None:
        """Jobs side by side, from their start to their end."""
        for number in numbers:
            self.console.start(number)
        self.clock.now += seconds
        for number in numbers:
            self.console.finish(number)

    def show(self) -> list[str]:
        self.console.show()
        return self.stream.shown().splitlines()


def job(number: int, rule: str, wildcards: dict, needs: range | tuple = (), images: int | None = None, **more) -> Job:
    found = {"output": ["x"], "log": [f"logs/{rule}/{number}.log"], "benchmark": None, "pending": True}
    return Job(id=number, rule=rule, wildcards=wildcards, needs=needs, threads=1, images=images, **found | more)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return Run(tmp_path, Stream(), monkeypatch)


@pytest.fixture
def piped(tmp_path, monkeypatch) -> Run:
    return Run(tmp_path, Stream(tty=False), monkeypatch)


def test_what_runs_how_much_is_done_how_fast_and_how_long_it_takes(run):
    run.begin()
    assert run.show() == [
        "detport: 18 jobs: export, 16 detect, evaluate; no estimate yet",
        "",
        "detport: 0 of 18 jobs done, no estimate yet",
    ]
    run.console.start(0)
    run.clock.now += 3
    assert run.show()[-1] == "  m: export, 3 s"
    run.console.finish(0)
    run.do(1, 2)
    run.console.start(3)
    run.console.start(4)
    run.clock.now += 5
    run.write(3, "infer: 10 of 20 images, 2 images/s", "infer: warning: bad image 'x.jpg'")
    assert run.show()[1:] == [
        "",
        "detport: 3 of 18 jobs done, more than 65 s left (evaluate not timed yet)",
        "  m/b: detect 2 of 16 shards, 3.3 images/s",
        "  last warning: detect of m/b, shard 3 of 16: infer: bad image 'x.jpg'",
    ]


def test_a_speed_is_that_of_the_last_count_unless_nothing_moves_any_more(run):
    """The logs are written every ten seconds."""
    run.begin()
    run.do(1, 2, seconds=10)
    run.console.start(3)
    told = []
    for _ in range(4):
        told.append(run.show()[-1].split(", ")[-1])
        run.clock.now += 10
    assert told == ["4 images/s", "4 images/s", "4 images/s", "1 images/s"]


def test_shards_of_an_earlier_run_are_done_and_no_job_of_this_one(run):
    run.jobs = [each._replace(pending=each.id > 5) for each in run.jobs]
    run.begin()
    run.console.start(6)
    assert run.show()[-2:] == ["detport: 0 of 12 jobs done, no estimate yet", "  m/b: detect 5 of 16 shards, 1 s"]


def test_what_an_earlier_run_left_in_a_log_says_nothing_of_this_one(run):
    run.write(1, "infer: 10 of 20 images, 2 images/s", "infer: warning: old")
    run.clock.now += 100
    run.begin()
    run.console.start(1)
    run.clock.now += 5
    assert run.show()[-1] == "  m/b: detect 0 of 16 shards, 5 s"


def test_at_the_end_nothing_of_the_view_is_left(run):
    run.begin()
    run.do(0)
    run.show()
    run.console.say("Complete log: x")
    run.show()
    run.console.end()
    assert run.show() == ["detport: 18 jobs: export, 16 detect, evaluate; no estimate yet", "Complete log: x"]


def test_a_failed_job_is_told_at_once_above_the_view(run):
    run.begin()
    run.console.start(7)
    run.show()
    run.clock.now += 5
    run.write(7, *(f"infer: line {i}" for i in range(20)), "infer: error: 'x.jpg' \x1b[2J is broken; replace it")
    run.console.fail(7, run.jobs[7].log, lambda text: f"\x1b[31m{text}\x1b[0m")
    lines = run.show()
    assert lines[1] == "detport: error: detect of m/b, shard 7 of 16 failed"
    assert lines[2] == "  2026-01-01 10:00:00,000 infer: line 11"
    assert lines[11] == "  2026-01-01 10:00:00,000 infer: error: 'x.jpg' ?[2J is broken; replace it"
    assert lines[12:] == [
        "  log: logs/detect/7.log",
        "  command: in snakemake.log; --printshellcmds shows it",
        "",
        "detport: 0 of 18 jobs done, 1 failed",
    ]


def test_of_several_logs_the_last_that_was_written_tells(run):
    """The stage behind the one that failed has not come to its turn: its log is of an earlier run."""
    for number in (1, 2, 3):
        run.write(number, f"stage {number}: of earlier")
    logs = [run.jobs[number].log[0] for number in (1, 2, 3)]
    run.clock.now += 60
    run.begin()
    run.console.start(1)
    run.write(1, "preprocess: fine")
    run.write(2, "infer: error: no")
    run.console.fail(1, logs, str)
    assert run.show()[2:4] == ["  2026-01-01 10:00:00,000 infer: error: no", "  log: logs/detect/2.log"]


def test_a_job_that_is_tried_again_has_not_failed(run):
    run.begin()
    run.console.start(1)
    run.console.fail(1, [], str)
    assert run.show()[-1].endswith("1 failed")
    run.do(1)
    assert "failed" not in run.show()[-1]


def test_whatever_else_writes_to_the_terminal_is_not_lost(run):
    run.begin()
    run.console.start(1)
    run.show()
    run.stream.write("^Cdetport: process 7 is stopped\nand a second line\n")
    run.clock.now += 1
    lines = run.show()
    assert lines[1] == "^Cdetport: process 7 is stopped"
    assert lines[2].startswith("and a second line")  # the rest of what stood there before shines through
    assert lines[3:] == ["", "detport: 0 of 18 jobs done, no estimate yet", "  m/b: detect 0 of 16 shards, 1 s"]


def test_a_job_that_speaks_has_the_terminal_for_itself(run):
    run.jobs = [run.jobs[0], job(18, "accept", {}, output=[])]
    run.begin()
    run.show()
    run.console.start(18)
    run.stream.write("PASS         m\n" * 3)
    assert run.show()[1:] == ["PASS         m"] * 3
    run.console.finish(18)
    assert run.show()[4:] == ["", "detport: 1 of 2 jobs done, no estimate yet"]


def test_one_job_is_no_jobs(run):
    run.jobs = run.jobs[:1]
    run.begin()
    assert run.show()[0] == "detport: 1 job: export; no estimate yet"


def test_what_only_asks_has_no_view(run):
    run.jobs = [job(0, "plan", {}, output=[])]
    run.begin()
    run.console.start(0)
    assert run.show() == []


@pytest.mark.parametrize("columns", [10, 20, 40])
def test_narrow_terminals(tmp_path, monkeypatch, columns):
    run = Run(tmp_path, Stream(columns=columns), monkeypatch)
    run.begin()
    run.console.start(1)
    run.write(1, "infer: warning: 图像图像图像图像图像图像图像图像图像")
    for _ in range(3):
        run.clock.now += 1
        lines = run.show()
    assert all(len(line) < columns for line in lines[-3:])
    assert lines[-4] == ""


def test_a_low_terminal_shows_the_first_lines(tmp_path, monkeypatch):
    run = Run(tmp_path, Stream(rows=4), monkeypatch)
    run.begin()
    for number in (0, 1, 17):
        run.console.start(number)
    for _ in range(3):
        run.clock.now += 1
        lines = run.show()
    assert len(lines) == 4
    assert lines[2:] == ["detport: 0 of 18 jobs done, no estimate yet", "  m: export, 3 s"]


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
        ("图像图像", 8, "图像图像"),
        ("图像图像", 7, "图像..."),
        ("图像图像", 6, "图..."),
        ("abcdef", 2, ".."),
        ("a\x1b[2Jb\nc", 20, "a?[2Jb?c"),
        ("e\u0301e\u0301e\u0301e\u0301e\u0301", 4, "e\u0301..."),
    ],
)
def test_lines_are_cropped_to_the_columns_that_they_take(text, columns, shown):
    assert screen.crop(text, columns) == shown


def test_in_a_pipe_a_line_now_and_then(piped):
    piped.begin()
    for second in range(65):
        if second == 30:
            piped.console.start(1)
        if second == 40:
            piped.write(1, "infer: 10 of 20 images, 1 images/s", "infer: warning: odd")
        piped.console.show()
        piped.clock.now += 1
    piped.console.end()
    assert piped.stream.getvalue().splitlines() == [
        "detport: 18 jobs: export, 16 detect, evaluate; no estimate yet",
        "detport: 0 of 18 jobs done, no estimate yet; m/b: detect 0 of 16 shards, 1 s",
        "detport: 0 of 18 jobs done, no estimate yet; m/b: detect 0 of 16 shards, 0.33 images/s",
        "detport: last warning: detect of m/b, shard 1 of 16: infer: odd",
    ]


def test_a_terminal_that_cannot_be_drawn_over_is_as_good_as_a_pipe(monkeypatch):
    for term in ("dumb", None):
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
        assert not screen.is_live(Stream()) and not screen.has_colours(Stream())


def test_no_colours_where_nobody_wants_them(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert screen.has_colours(Stream()) and not screen.has_colours(Stream(tty=False))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not screen.has_colours(Stream()) and screen.is_live(Stream())


def test_an_encoding_that_lacks_characters(tmp_path):
    with (tmp_path / "said").open("w", encoding="ascii") as stream:
        screen.Screen(stream).write("图像 é")
    assert (tmp_path / "said").read_text(encoding="ascii") == "\\u56fe\\u50cf \\xe9\n"


def test_a_reader_that_is_gone_does_not_end_the_run():
    reader, writer = os.pipe()
    os.close(reader)
    stream = io.TextIOWrapper(io.FileIO(writer, "w"), "utf-8", write_through=True)
    shown = screen.Screen(stream)
    shown.write("nobody reads this")
    shown.write("nor this")
    assert shown.gone


def test_what_is_said_again_and_again_is_said_once(piped):
    for text in ("Will exit", "Will exit", "other", "Will exit"):
        piped.console.say(text)
    assert piped.stream.getvalue().split("\n") == ["Will exit", "other", "Will exit", ""]


def test_a_warning_of_snakemake_is_the_last_one(run):
    run.begin()
    run.console.say("Warning: odd", warning=True)
    assert run.show()[-1] == "  last warning: Warning: odd"
