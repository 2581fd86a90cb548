"""Every use of Snakemake's internals in engine.py, on workflows of a few lines: a version with other ways fails."""

import base64
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detport import config, engine

HEAD = """
import json, os, sys
sys.path.insert(0, {scripts!r})
from detport import engine

def say(**found):
    with open("said", "a") as file:
        file.write(json.dumps(found) + "\\n")
"""
# c is made from b, b from a, which a person brings; d is nobody's.
CHAIN = """
def brought(wildcards):
    engine.leave_reruns_to_records(workflow, os.environ.get("STALE", "").split())
    say(real=engine.is_real_run(workflow), targets=engine.targets(workflow), cores=engine.cores(workflow))
    return "a"

onstart:
    say(outputs=engine.outputs(workflow), pending=engine.outputs(workflow, pending=True))

rule c:
    input: "b"
    output: "c"
    shell: "cat {input} > {output}"

rule b:
    input: brought
    output: "b", "b2"
    params: config.get("setting", 1)
    shell: "cat {input} > b; touch b2"

rule d:
    output: "d"
    shell: "touch d"
"""


class Workflow:
    """A folder with a Snakefile of our own."""

    def __init__(self, folder: Path, rules: str):
        self.folder = folder
        self.write(rules)
        (folder / "a").write_text("one")

    def write(self, rules: str) -> None:
        (self.folder / "Snakefile").write_text(HEAD.format(scripts=str(config.ROOT / "scripts")) + rules)

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        command = [sys.executable, "-m", "snakemake", *arguments]
        options = {"cwd": self.folder, "capture_output": True, "text": True, "check": False}
        done = subprocess.run(command, env=os.environ | environment, **options)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def made(self, *arguments: str, **environment: str) -> list[str]:
        """Rules of the jobs that a run has begun."""
        return re.findall(r"^(?:local)?rule (\w+):$", self.run("--cores", "2", *arguments, **environment), re.MULTILINE)

    def said(self) -> list[dict]:
        """What the workflow has noted since the last time."""
        path = self.folder / "said"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def chain(tmp_path) -> Workflow:
    """It has run to its end."""
    workflow = Workflow(tmp_path, CHAIN)
    assert workflow.made("c") == ["b", "c"]
    workflow.said()
    return workflow


@pytest.mark.parametrize(
    ("stale", "targets", "rules"),
    [
        ("", ["c"], []),
        ("b", ["c"], ["b", "c"]),
        ("c", ["c"], ["c"]),
        ("d", ["c"], []),
        ("c", ["b"], []),
        ("x", ["c"], []),
    ],
    ids=["nothing", "before", "itself", "elsewhere", "behind", "nobody's"],
)
def test_what_is_stale_is_made_again_only_if_the_run_is_about_it(chain, stale, targets, rules):
    assert chain.made(*targets, STALE=stale) == rules


def settings(chain: Workflow) -> list[str]:
    return ["--config", "setting=2", "--"]


def code(chain: Workflow) -> list[str]:
    chain.write(CHAIN.replace("touch b2", "touch b2; true"))
    return []


def inputs(chain: Workflow) -> list[str]:
    (chain.folder / "a2").write_text("old")
    os.utime(chain.folder / "a2", (1, 1))
    chain.write(CHAIN.replace('return "a"', 'return ["a", "a2"]'))
    return []


def other_time(chain: Workflow) -> list[str]:
    (chain.folder / "a").write_text("one")
    return []


def large_file_with_another_time(chain: Workflow) -> list[str]:
    """Larger than what Snakemake by itself compares by content."""
    (chain.folder / "a").write_bytes(bytes(3_000_000))
    chain.made("c")
    (chain.folder / "a").write_bytes(bytes(3_000_000))
    return []


@pytest.mark.parametrize("change", [settings, code, inputs, other_time, large_file_with_another_time])
def test_nothing_else_that_is_there_is_made_again(chain, change):
    assert chain.made(*change(chain), "c") == []


def test_but_a_newer_input_with_other_content_makes_it_again(chain):
    (chain.folder / "a").write_text("two")
    assert chain.made("c") == ["b", "c"]


def test_half_made_outputs_are_made_again_without_asking(chain):
    mark = base64.b64encode(b"b").decode()
    (chain.folder / ".snakemake" / "incomplete").mkdir(exist_ok=True)
    (chain.folder / ".snakemake" / "incomplete" / mark).touch()
    assert chain.made("c") == ["b", "c"]


def test_half_made_outputs_that_are_forgotten_count(chain):
    mark = chain.folder / ".snakemake" / "incomplete" / base64.b64encode(b"b").decode()
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    chain.write(
        CHAIN.replace('return "a"', 'say(forgot=engine.forget_half_made(workflow, ["b", "b2", "c"]))\n    return "a"')
    )
    assert chain.made("c") == []
    assert [found["forgot"] for found in chain.said() if "forgot" in found] == [["b"]]
    assert not mark.exists()


def test_where_jobs_go_and_what_they_ask_for(chain):
    """No other executor is installed with the tests; tests/cluster has one."""
    chain.write(
        CHAIN.replace(
            "say(outputs=",
            "say(to=engine.sends_jobs_to(workflow), asked=engine.resource_values(workflow, 'room'))\n    say(outputs=",
        )
        + "\nsay(scratch=engine.default_resource(workflow, 'scratch'))\n"
    )
    for arguments, scratch in (([], None), (["--default-resources", "scratch=tmpdir", "room=3"], "tmpdir")):
        chain.run("--cores", "1", "--force", "c", *arguments)
        said = {key: value for found in chain.said() for key, value in found.items()}
        assert (said["to"], said["scratch"]) == (None, scratch)
        assert said["asked"] == (["3"] if scratch else [])


@pytest.mark.parametrize(
    ("arguments", "real"),
    [
        (["--cores", "1"], True),
        (["-n"], False),
        (["--cores", "1", "--touch"], False),
        (["--summary"], False),
        (["--cores", "1", "--delete-all-output"], False),
        (["--rulegraph"], False),
        (["--cores", "1", "--list-input-changes"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whether_a_run_is_real(chain, arguments, real):
    chain.run(*arguments, "--", "c")
    assert [found["real"] for found in chain.said() if "real" in found] == [real]


def test_a_job_in_a_process_of_its_own_is_no_run(tmp_path):
    """A rule with Python code starts Snakemake again, which reads the Snakefile and its input functions again."""
    rules = CHAIN.replace('shell: "cat {input} > b; touch b2"', "run: open('b', 'w'), open('b2', 'w')")
    workflow = Workflow(tmp_path, rules.replace("say(real=", "say(job=engine.is_job(workflow), real="))
    workflow.made("b")
    found = [(each["job"], each["real"]) for each in workflow.said() if "real" in each]
    assert found == [(False, True), (True, False)]


def test_what_jobs_of_conda_environments_are_told_by(tmp_path):
    """The option alone: whether there is a conda is not asked before it is needed."""
    workflow = Workflow(tmp_path, CHAIN + "\nsay(conda=engine.uses_conda(workflow))\n")
    for arguments, conda in (([], False), (["--sdm", "conda"], True)):
        workflow.run("--list-rules", *arguments)
        assert workflow.said() == [{"conda": conda}]


def test_what_the_command_line_asks_for(chain):
    for targets in ([], ["c"], ["c", "d"]):
        chain.run("--cores", "2", "--", *targets)
        assert chain.said()[0]["targets"] == targets


def test_what_the_command_line_is_about(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake", "--cores", "2", "reports/one.txt", "results/two/checked.json"])
    assert [engine.mentions(name) for name in ("one", "two", "on", "reports/one")] == [True, True, False, False]


@pytest.mark.parametrize(("arguments", "only"), [(["--summary"], True), (["-n"], False)])
def test_whether_the_command_only_lists(tmp_path, arguments, only):
    workflow = Workflow(tmp_path, CHAIN + "\nsay(lists=engine.only_lists())\n")
    workflow.run(*arguments, "--", "c")
    assert workflow.said()[0] == {"lists": only}


@pytest.mark.parametrize(
    ("arguments", "cores"), [(["--cores", "3"], 3), (["--cores", "1"], 1), (["-n"], None), (["-n", "--cores", "3"], 3)]
)
def test_how_many_cores_a_run_may_use(chain, arguments, cores):
    chain.run(*arguments, "c")
    assert chain.said()[0]["cores"] == cores


def test_outputs_of_all_jobs_and_of_those_to_be_done_the_last_made_first(chain):
    chain.made("c", "d", STALE="c")
    _, found = chain.said()
    assert sorted(found["outputs"]) == ["b", "b2", "c", "d"]
    assert found["outputs"].index("c") < found["outputs"].index("b")
    assert sorted(found["pending"]) == ["c", "d"]


def test_rules_with_several_outputs(tmp_path):
    workflow = Workflow(tmp_path, CHAIN + "\nonsuccess: say(several=engine.several_outputs(workflow))\n")
    workflow.made("c")
    assert workflow.said()[-1] == {"several": ["b=2"]}


BUSY = """
engine.limit(workflow, "room", 2)
rule all:
    input: expand("{k}", k=range(4))
rule one:
    output: "{k}"
    resources: room=2
    shell: "mkdir busy && sleep 0.5 && rmdir busy && touch {output}"
"""


def test_a_limit_holds_unless_the_command_line_gives_another(tmp_path):
    """Two jobs at once would stumble over each other's folder."""
    workflow = Workflow(tmp_path, BUSY)
    workflow.run("--cores", "4")
    for path in tmp_path.glob("[0-3]"):
        path.unlink()
    assert "mkdir: cannot create directory" in workflow.run("--cores", "4", "all", "--resources", "room=8", status=1)


LARGE = """
say(limit=engine.limit(workflow, "mem_mb", 100), here=engine.runs_here(workflow))
rule all:
    input: expand("{k}", k=range(3))
rule one:
    output: "{k}"
    resources: mem_mb=lambda wildcards, attempt: 60 * attempt if wildcards.k == "0" else 5000
    shell: "mkdir busy && echo {resources.mem_mb} > {output} && sleep 0.5 && rmdir busy"
"""


def test_a_job_that_needs_more_than_there_is_runs_alone(tmp_path):
    workflow = Workflow(tmp_path, LARGE)
    workflow.run("--cores", "4")
    assert workflow.said()[0] == {"limit": 100, "here": True}
    assert [(tmp_path / name).read_text().strip() for name in "012"] == ["60", "100", "100"]
    workflow.run("--cores", "1", "--resources", "mem=16GB")
    assert workflow.said()[0]["limit"] == 16000, "what the command line says, in whatever unit"


ASKING = """
def asked(wildcards):
    if os.environ.get("ALONE"):
        engine.leave_locks_alone(workflow)
    return []
rule ask:
    input: asked
    output: touch("asked")
"""


def test_locks_are_left_alone(tmp_path):
    workflow = Workflow(tmp_path, ASKING)
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("asked\n")
    assert "LockException" in workflow.run("--cores", "1", "ask", status=1)
    assert workflow.made("ask", ALONE="yes") == ["ask"]
    assert [path.name for path in lock.parent.iterdir()] == [lock.name]


FOLDERS = """
configfile: "config.yaml"
files = engine.configuration_files(workflow, "config.yaml")
say(started=engine.started_in(workflow), files=list(map(str, files)))
rule x:
    output: "x"
    shell: "touch x"
"""


def test_where_the_command_was_given_and_which_configuration_it_names(tmp_path):
    (tmp_path / "inside").mkdir()
    workflow = Workflow(tmp_path, FOLDERS)
    for path in (tmp_path / "inside" / "config.yaml", tmp_path / "over.yaml"):
        path.write_text("a: 1\n")
    arguments = ["-n", "--directory", "inside", "x"]
    for more, files in (
        ([], ["config.yaml"]),
        (["--configfile", "over.yaml"], ["config.yaml", str(tmp_path / "over.yaml")]),
    ):
        workflow.run(*arguments, *more)
        (found,) = map(json.loads, (tmp_path / "inside" / "said").read_text().splitlines())
        (tmp_path / "inside" / "said").unlink()
        assert (found["started"], found["files"]) == (str(tmp_path), files)


WATCHED = """
from detport.console.live import Console

console = Console(idle=lambda: say(idle=True))
engine.watch(workflow, console)

def brought(wildcards):
    console.quiet = engine.is_real_run(workflow)
    return "a"

onstart:
    say(jobs=[job._asdict() for job in engine.jobs(workflow)], places=engine.places(workflow))
    console.begin(engine.jobs(workflow), engine.places(workflow))

rule all:
    input: "c"

rule c:
    input: "b"
    output: "c"
    log: "c.log"
    threads: 2
    shell: "echo 'c: error: it was told to fail' > {log}; test ! -e fail; cat {input} > {output}"

rule b:
    input: brought
    output: "b"
    benchmark: "b.tsv"
    shell: "cat {input} > {output}"
"""
CHATTER = ("rule b:", "Select jobs", "Finished jobid", "Shell command", "Job stats", "SNAKEMAKE")


def test_the_jobs_of_a_run_and_how_many_fit_at_once(tmp_path):
    workflow = Workflow(tmp_path, WATCHED)
    workflow.run("--cores", "3", "b")
    workflow.run("--cores", "3")
    (first, then) = (found for found in workflow.said() if "jobs" in found)
    (b, c) = sorted(then["jobs"], key=lambda job: job["rule"])
    assert (first["places"], [job["rule"] for job in first["jobs"]]) == (3, ["b"])
    assert (b["pending"], b["benchmark"], b["log"], b["needs"]) == (False, "b.tsv", [], [])
    assert (c["pending"], c["benchmark"], c["log"], c["needs"]) == (True, None, ["c.log"], [b["id"]])
    assert (c["threads"], c["output"], c["wildcards"], c["images"]) == (2, ["c"], {}, None)


def test_the_console_says_what_snakemake_would_and_its_log_has_the_rest(tmp_path):
    workflow = Workflow(tmp_path, WATCHED)
    said = workflow.run("--cores", "2")
    assert "detport: 2 jobs: b, c; no estimate yet\n" in said
    assert "Complete log(s): " in said
    assert [word for word in CHATTER if word in said] == []
    (log,) = (tmp_path / ".snakemake" / "log").iterdir()
    assert "Shell command: cat a > b" in log.read_text()
    assert not any("idle" in found for found in workflow.said())
    again = workflow.run("--cores", "2")
    assert "Nothing to be done" in again
    assert workflow.said()[-1] == {"idle": True}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--printshellcmds"], ["rule b:", "Shell command"]),
        (["--verbose"], ["rule b:", "SNAKEMAKE"]),
        (["--quiet", "rules"], ["Job stats", "SNAKEMAKE"]),
        (["-n"], ["rule b:", "Job stats"]),
        (["--logger", "mine"], ["mine: JOB_INFO"]),
    ],
    ids=" ".join,
)
def test_whoever_chooses_what_is_seen_gets_it(tmp_path, flags, told):
    (tmp_path / "snakemake_logger_plugin_mine").mkdir()
    (tmp_path / "snakemake_logger_plugin_mine" / "__init__.py").write_text(PLUGIN)
    workflow = Workflow(tmp_path, WATCHED)
    said = workflow.run("--cores", "2", *flags, "--", "all", PYTHONPATH=str(tmp_path))
    assert [word for word in told if word not in said] == []
    assert "detport: 2 jobs" not in said
    assert ("Shell command" in said) == ("--printshellcmds" in flags)


PLUGIN = """
import sys
from snakemake_interface_logger_plugins.base import LogHandlerBase

class LogHandler(LogHandlerBase):
    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False
    def emit(self, record):
        print("mine:", getattr(record, "event", None) and record.event.name, file=sys.stderr)
"""


@pytest.mark.parametrize("flags", [["--rulegraph"], ["--summary"]], ids=" ".join)
def test_what_asks_is_answered_as_ever(tmp_path, flags):
    workflow = Workflow(tmp_path, WATCHED)
    (tmp_path / "plain").mkdir()
    plain = Workflow(tmp_path / "plain", WATCHED.replace("engine.watch(workflow, console)", ""))
    asked = [sys.executable, "-m", "snakemake", "all", *flags]
    watched, own = (
        subprocess.run(asked, cwd=each.folder, capture_output=True, text=True, check=True) for each in (workflow, plain)
    )
    assert (watched.stdout, watched.stderr) == (own.stdout, own.stderr)


def test_a_failed_job_is_told_with_the_end_of_its_log(tmp_path):
    workflow = Workflow(tmp_path, WATCHED)
    (tmp_path / "fail").touch()
    said = workflow.run("--cores", "2", status=1)
    assert "detport: error: c failed\n  c: error: it was told to fail\n  log: c.log\n  command: in .snakemake/" in said
    assert said.count("it was told to fail") == 1
    assert "CalledProcessError" not in said and "Traceback" not in said
    assert "Exiting because a job execution failed" in said


ENDED = """
import signal, time

onstart:
    engine.let_jobs_end(workflow)
    with workflow.scheduler._lock:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)

rule one:
    output: "one"
    shell: "touch {output}"
"""


def test_a_signal_that_comes_while_snakemake_is_busy_ends_the_run(tmp_path):
    """It would wait for a lock that the thread has that the signal interrupts."""
    workflow = Workflow(tmp_path, ENDED)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "one"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Will exit after finishing currently running jobs" in done.stderr
    assert workflow.said() == []


MANY = """
import snakemake.jobs

formatted = snakemake.jobs.Job.format_wildcards

def counted(self, text, **variables):
    if text.startswith("echo"):
        say(formatted=self.wildcards.n)
    return formatted(self, text, **variables)

snakemake.jobs.Job.format_wildcards = counted
engine.plan_quickly()

rule all:
    input: expand("{n}.txt", n=range(5))

rule one:
    output: "{n}.txt"
    params: twice=lambda wildcards, output: f"{output} {2 * int(wildcards.n)}"
    shell: "echo {params.twice} > {output}"

onsuccess:
    import snakemake.rules
    say(hits=snakemake.rules.get_function_params.cache_info().hits)
"""


def test_functions_are_inspected_once_and_called_for_every_job(tmp_path):
    workflow = Workflow(tmp_path, MANY)
    workflow.run("--cores", "2")
    assert [(tmp_path / f"{n}.txt").read_text() for n in range(5)] == [f"{n}.txt {2 * n}\n" for n in range(5)]
    assert workflow.said()[-1]["hits"] >= 4


def test_a_plan_puts_the_command_of_a_job_together_once(tmp_path):
    workflow = Workflow(tmp_path, MANY)
    said = workflow.run("-n", "-p")
    assert sorted(each["formatted"] for each in workflow.said()) == list("01234")
    assert all(f"echo {n}.txt {2 * n} > {n}.txt" in said for n in range(5))


LAST_WORD = """
engine.end_with(2, "left out: one")

rule one:
    output: "one"
    shell: "touch {output}"

rule fails:
    shell: "exit 1"
"""


@pytest.mark.parametrize("asked", [["one"], ["-n", "one"], ["fails"]], ids=["run", "plan", "failure"])
def test_a_run_ends_with_a_word_and_a_status_of_our_own(tmp_path, asked):
    """However it ends, and whether there is anything to do: the second time there is not."""
    workflow = Workflow(tmp_path, LAST_WORD)
    for _ in range(2):
        assert workflow.run("--cores", "1", *asked, status=2).rstrip().endswith("left out: one")
    assert (tmp_path / "one").exists() == (asked == ["one"])


def test_a_version_that_nobody_has_tried_is_told(monkeypatch):
    for version, untried in (("9.27.0", False), ("9.27.9", False), ("9.28.0", True), ("10.0.0", True)):
        monkeypatch.setattr(engine.snakemake, "__version__", version)
        assert bool(engine.untried()) is untried
    assert f'\nmin_version("{engine.OLDEST}")\n' in (config.ROOT / "Snakefile").read_text()


def test_the_version_of_the_lock_was_tried():
    pin = re.search(r"^snakemake==(\d+\.\d+)", (config.ROOT / "envs" / "run.txt").read_text(), re.MULTILINE)[1]
    assert pin == engine.NEWEST


def test_no_other_file_uses_snakemakes_internals():
    """Where the Snakefile is, is told by workflow.snakefile, which modules of other workflows have as well."""
    files = [config.ROOT / "Snakefile", *(config.ROOT / "rules").iterdir(), *(config.ROOT / "scripts").rglob("*.py")]
    used = [
        (path.name, found)
        for path in files
        for found in re.findall(
            r"(?:\bworkflow\.(?!snakefile\b)\w+|(?:from|import) snakemake\b(?!\.utils)).*", path.read_text()
        )
    ]
    assert {name for name, _ in used} == {"engine.py"}


def test_every_use_has_a_test_here():
    own = inspect.getsource(sys.modules[__name__])
    uses = [
        name
        for name, value in vars(engine).items()
        if inspect.isfunction(value) and value.__module__ == engine.__name__
    ]
    assert len(uses) > 8
    assert [name for name in uses if f"engine.{name}(" not in own] == []


COUNTED = """
from snakemake.scheduling.job_scheduler import JobScheduler

engine.look_for_jobs_when_some_end()
select = JobScheduler.job_selector

def counted(self, jobs):
    found = select(self, jobs)
    say(ready=len(jobs), started=len(found))
    return found

JobScheduler.job_selector = counted

rule all:
    input: expand("{k}", k=range(3))
rule one:
    output: "{k}"
    shell: "sleep 1.5; touch {output}"
"""


def test_jobs_to_start_are_looked_for_when_some_end_and_not_by_the_clock(tmp_path):
    workflow = Workflow(tmp_path, COUNTED)
    workflow.run("--cores", "1")
    assert [found["started"] for found in workflow.said()] == [1, 1, 1, 1]


def test_but_jobs_that_are_held_back_by_a_limit_per_second_are_started_later(tmp_path):
    workflow = Workflow(tmp_path, COUNTED.replace("sleep 1.5; ", ""))
    workflow.run("--cores", "3", "--max-jobs-per-timespan", "1/1s")
    found = workflow.said()
    assert [each["started"] for each in found if each["started"]] == [1, 1, 1, 1]
    assert any(each["ready"] and not each["started"] for each in found)
