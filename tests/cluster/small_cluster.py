"""A Slurm of two nodes on this machine, for as long as the tests last: no systemd, no accounting; all of its processes
and files are gone in the end."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from detport import runs

DEFAULT = Path("/etc/slurm")  # where jobs look: they lose SLURM_CONF
MARK = "# Written by tests/cluster of detport, which removes it again."
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
TOKEN = "DETPORT_TEST_CLUSTER"  # of the environment of all that belongs to the cluster, jobs included
NODES = {"node1": 2, "node2": 1}  # with so many cores and devices
CONF = """{mark}
ClusterName=detport
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
SlurmUser=root
SlurmctldPort={port}
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmdSpoolDir={place}/%n
StateSaveLocation={place}/state
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
TaskProlog={place}/prolog
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=npu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=300
SlurmdTimeout=10
KillWait=2
ReturnToService=2
PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 State=UP
"""
# Each node's own disk is a folder of its own.
PROLOG = """#!/bin/sh
echo export TMPDIR={place}/disk-$SLURMD_NODENAME
"""


class Cluster:
    """The daemons, by the name of what they are or, for a node, of the node."""

    def __init__(self, place: Path):
        self.place = place
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {TOKEN: str(place)}

    def write(self) -> None:
        """The configuration, at Slurm's default place."""
        port = 20000 + os.getpid() % 10000
        conf = CONF.format(mark=MARK, host=socket.gethostname(), place=self.place, port=port)
        gres = ""
        for i, (name, size) in enumerate(NODES.items(), 1):
            conf += f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port + i}"
            conf += f" CPUs={size} RealMemory=64000 Gres=npu:{size}\n"
            gres += f"NodeName={name} Name=npu File={self.place}/npu[0-{size - 1}]\n"
            self.disk(name).mkdir()
            (self.place / name).mkdir()
        for k in range(max(NODES.values())):
            (self.place / f"npu{k}").touch()
        (self.place / "state").mkdir()
        (self.place / "prolog").write_text(PROLOG.format(place=self.place))
        (self.place / "prolog").chmod(0o755)
        (DEFAULT / "slurm.conf").write_text(conf)
        (DEFAULT / "gres.conf").write_text(f"{MARK}\n{gres}")

    def disk(self, node: str) -> Path:
        """The folder that stands for a node's own disk."""
        return self.place / f"disk-{node}"

    def start(self) -> None:
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
        flags = [f"--{flag}={self.place / name}" for flag, name in names.items()]
        self.daemon("munged", "--foreground", "--force", *flags, f"--seed-file={self.place / 'munge.seed'}")
        wait_for(lambda: (self.place / "munge.socket").exists(), 20, "munged")
        self.daemon("slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        wait_for(self.is_idle, 60, "both nodes to be idle")

    def daemon(self, *command: str, name: str | None = None) -> None:
        path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        with (self.place / "daemons.log").open("a") as log:
            self.processes[name or command[0]] = subprocess.Popen(
                [path, *command[1:]], env=self.environment, stdout=log, stderr=log
            )

    def start_node(self, name: str) -> None:
        self.daemon("slurmd", "-D", "-N", name, name=name)

    def is_idle(self) -> bool:
        return sorted(self.ask("sinfo", "--Node", "--noheader", "--format=%N %T").split("\n")) == [
            f"{name} idle" for name in NODES
        ]

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints; nothing while the controller does not answer."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip()

    def jobs(self, *states: str) -> list[tuple[str, str, str]]:
        """Number, comment and node of jobs in some states, in order."""
        lines = self.ask("squeue", "--noheader", f"--states={','.join(states)}", "--format=%i|%k|%N").splitlines()
        return sorted((tuple(line.split("|")) for line in lines), key=lambda job: int(job[0]))

    def kill_node(self, name: str) -> None:
        """As if it lost its power: its daemon, its jobs and all that they have begun are gone at once."""
        process = self.processes.pop(name)
        marks = (f"TMPDIR={self.disk(name)}".encode(), f"SLURMD_NODENAME={name}".encode())
        found = [pid for pid in runs.orphans(str(self.place), TOKEN) if has_any(pid, marks)]
        steppers = [pid for pid in runs.orphans(str(self.place), TOKEN) if f"-N {name}" in command_line(pid)]
        for pid in (process.pid, *children(process.pid), *steppers, *found):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.wait()

    def stop(self) -> None:
        if "slurmctld" in self.processes:
            self.ask("scancel", "--user=root")
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: not self.jobs("PENDING", "RUNNING", "COMPLETING"), 20, "the end of all jobs")
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        runs.end(runs.orphans(str(self.place), TOKEN))
        for process in self.processes.values():
            process.wait()


def children(parent: int) -> list[int]:
    """Processes that a process has begun."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if (text := read(path)) and int(text[text.rindex(b")") + 2 :].split()[1]) == parent
    ]


def has_any(pid: int, entries: tuple[bytes, ...]) -> bool:
    return any(entry in read(Path(f"/proc/{pid}/environ")).split(b"\0") for entry in entries)


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline")).decode("utf-8", "replace").replace("\0", " ")


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process is gone


def wait_for(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


def missing() -> str | None:
    """Why there can be no cluster here."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for name in DAEMONS:
        if shutil.which(name, path=path) is None:
            return f"there is no {name} (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd needs root"
    conf = DEFAULT / "slurm.conf"
    if conf.exists() and MARK not in conf.read_text():
        return f"{conf} is that of a real cluster"
    return None


@contextlib.contextmanager
def small_cluster() -> Iterator[Cluster]:
    """Bring it up, and take it down whatever happens."""
    place = Path(tempfile.mkdtemp(prefix="detport-slurm-", dir="/tmp"))  # short: a socket's path has 108 characters
    cluster = Cluster(place)
    try:
        cluster.write()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        for name in ("slurm.conf", "gres.conf"):
            (DEFAULT / name).unlink(missing_ok=True)
        shutil.rmtree(place)
