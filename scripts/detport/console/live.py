"""The console of a run: takes what Snakemake says, and shows a person or a log what there is to know."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from detport.console.jobs import Job
from detport.console.screen import Screen, printable
from detport.console.view import View

PAUSE = 1.0  # seconds between two drawings
INTERVAL = 30.0  # seconds between two lines where nothing can be drawn over


class Console:
    """It does nothing before `attach`, and shows jobs after `begin`. `quiet` says that this is a run, of which nothing
    is told twice; `idle` is called if the run has nothing to do."""

    def __init__(self, idle: Callable[[], None], clock: Callable[[], float] = time.time):
        self.idle = idle
        self.clock = clock
        self.quiet = False
        self.lock = threading.RLock()
        self.screen: Screen | None = None
        self.view: View | None = None
        self.commands, self.place = Path(), Path()
        self.told, self.warned = 0.0, ""  # when the last line was written, and the last warning in one
        self.last = ""
        self.over = threading.Event()

    def attach(self, stream: TextIO, commands: Path, place: Path) -> None:
        """Take a stream over; `commands` is the log that has every job's command, `place` where the run was started."""
        self.screen, self.commands, self.place = Screen(stream), commands, place

    def begin(self, jobs: Sequence[Job], places: int) -> None:
        """The jobs are known, and the first are about to start."""
        if self.screen is None:
            return
        self.quiet = True
        with self.lock:
            self.view = View(jobs, places, self.commands, self.place, self.clock)
            self.told = self.clock()
            if any(job.output for job in self.view.open.values()):  # else it only asks
                self.screen.write(f"detport: {self.view.summary()}")
        threading.Thread(target=self.run, name="console", daemon=True).start()

    def run(self) -> None:
        """Keep the view up to date until the end."""
        while not self.over.wait(PAUSE):
            self.show()

    def show(self) -> None:
        """Draw the view; where that cannot be done, write a line if it is time."""
        with self.lock:
            if self.view is None or self.over.is_set():
                return
            if self.screen.live:
                self.screen.draw([] if self.view.speaks() else self.view.block())
            elif not self.view.speaks() and self.clock() - self.told >= INTERVAL:
                self.told = self.clock()
                self.screen.write(printable(self.view.line()))
                if self.view.warning != self.warned:
                    self.warned = self.view.warning
                    self.screen.write(printable(f"detport: last warning: {self.warned}"))

    def start(self, number: int) -> None:
        with self.lock:
            if self.view:
                self.view.start(number)
                if self.view.speaks():
                    self.show()

    def finish(self, number: int) -> None:
        with self.lock:
            if self.view:
                self.view.finish(number)

    def knows(self, number: int) -> bool:
        """Whether there is something to say of a job."""
        return self.view is not None and number in self.view.jobs

    def fail(self, number: int, logs: Sequence[str], mark: Callable[[str], str]) -> None:
        """Say at once what has failed; `mark` gives the first line the colour of an error."""
        with self.lock:
            first, *rest = map(printable, self.view.fail(number, logs))
            self.screen.write("\n".join([mark(first), *rest]))

    def say(self, text: str, warning: bool = False) -> None:
        """Something that stays."""
        with self.lock:
            if warning and self.view:
                self.view.warn(text)
            if text != self.last:  # Snakemake says some things again and again
                self.screen.write(text)
            self.last = text

    def end(self) -> None:
        """The view is over; what was said stays."""
        self.over.set()
        with self.lock:
            if self.screen:
                self.screen.draw([])
