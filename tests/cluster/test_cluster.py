"""The same rules on a cluster: equal numbers, and what becomes of a run whose node, job or head dies."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_cluster import NODES, wait_for

from runs import ROOT, reduced_demo

ACCURACY = "results/yolo/onnxruntime/accuracy.json"
GROUPED = ["--group-components", "shards_{model}_{backend}=2"]
QUICK = ["--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2", "--cores", "1"]


def begin(cluster, folder: Path, *targets: str, python: str = sys.executable, options: list[str] = QUICK):
    """Start a run on the cluster, with the profile that users have; what it says goes to a file."""
    command = [python, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles" / "slurm", *options, "--", *targets]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, env=cluster.environment, stdout=said, stderr=said, cwd=folder)


def finish(cluster, folder: Path, *targets: str, status: int = 0, **options) -> str:
    """A run on the cluster to its end; what detport itself said."""
    return end(begin(cluster, folder, *targets, **options), folder, status)


def end(run: subprocess.Popen, folder: Path, status: int = 0) -> str:
    code = run.wait(timeout=400)
    said = (folder / "said").read_text()
    assert code == status, said
    return "\n".join(line for line in said.splitlines() if line.startswith("detport: "))


def running(cluster) -> list[tuple[str, str, str]]:
    """Jobs that are at work on shards."""
    return [job for job in cluster.jobs("RUNNING") if job[1].startswith("rule_shards")]


def same(folder: Path, here: Path) -> bool:
    return (folder / ACCURACY).read_bytes() == (here / ACCURACY).read_bytes()


def test_the_report_of_a_cluster_has_the_numbers_of_one_machine(cluster, here, tmp_path):
    """From nothing, in a path with a space and a quote; no tensor is ever kept where the results are."""
    folder = reduced_demo(tmp_path / "it's a demo", "yolo", shards=4)
    assert "detport: yolo: " in finish(cluster, folder, "reports/yolo.txt")
    assert same(folder, here)
    submitted = cluster.jobs("COMPLETED")
    assert len(submitted) <= 8, "port, check, index, benchmark, parity, two of shards at most, score"
    assert {node for _, _, node in submitted} <= NODES.keys()
    assert not list(folder.rglob("*.bin"))
    assert not list(folder.glob("results/yolo/onnxruntime/[os]*")), "neither outputs nor scratch"
    assert not [path for node in NODES for path in cluster.disk(node).rglob("*.mb")]
    finish(cluster, folder, "reports/yolo.txt")
    assert len(cluster.jobs("all")) == len(submitted), "there is nothing more to do"


def test_jobs_of_a_killed_head_are_waited_for_and_not_done_again(cluster, here, undetected):
    first = begin(cluster, undetected, ACCURACY, options=[*QUICK, *GROUPED])
    wait_for(lambda: running(cluster), 120, "a job on shards")
    first.send_signal(signal.SIGKILL)
    first.wait()
    at_work = running(cluster)
    assert at_work
    said = finish(cluster, undetected, ACCURACY, options=[*QUICK, *GROUPED])
    for number, _, _ in at_work:
        assert re.search(
            rf"waiting for Slurm jobs of an earlier run: .*\b{number} \(shards_yolo_onnxruntime_detect\)", said
        )
    assert "they have ended; what they finished counts" in said
    done = [about for number, about, _ in cluster.jobs("COMPLETED") if int(number) >= int(at_work[0][0])]
    assert done.count("rule_shards_yolo_onnxruntime_detect") == 2, "each of the two groups of shards was done once"
    assert same(undetected, here)


def test_a_node_that_dies_costs_only_its_jobs(cluster, here, undetected):
    run = begin(cluster, undetected, ACCURACY)
    wait_for(lambda: running(cluster), 120, "a job on shards")
    *_, node = running(cluster)[0]
    cluster.kill_node(node)
    try:
        end(run, undetected)
        assert same(undetected, here)
    finally:
        cluster.start_node(node)
        wait_for(cluster.is_idle, 60, "the node to be back")
    assert not list(undetected.rglob("*.bin"))


def test_a_job_that_somebody_cancels_is_told_with_its_log(cluster, here, undetected):
    run = begin(cluster, undetected, ACCURACY, options=[*QUICK, "--retries", "0"])
    wait_for(lambda: running(cluster), 120, "a job on shards")
    number, *_ = running(cluster)[0]
    cluster.ask("scancel", number)
    said = end(run, undetected, status=1)
    line = next(line for line in said.splitlines() if f"Slurm job {number} " in line)
    assert re.search(r"CANCELLED on node\d: somebody has ended it \(scancel\); log: ", line)
    assert Path(line.partition("; log: ")[2]).is_file()
    finish(cluster, undetected, ACCURACY)
    assert same(undetected, here)


def test_a_partition_that_is_not_there_is_named_before_anything_is_submitted(cluster, undetected):
    before = len(cluster.jobs("all"))
    options = [*QUICK, "--default-resources", "slurm_partition=night", "scratch=tmpdir"]
    said = finish(cluster, undetected, ACCURACY, options=options, status=2)
    assert (
        said.splitlines()[-1] == "detport: error: slurm_partition: there is no 'night', only main; correct the profile"
    )
    assert len(cluster.jobs("all")) == before


def test_drained_nodes_are_told_and_the_run_goes_on_when_they_are_back(cluster, undetected, here):
    for node in NODES:
        cluster.ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=a test")
    try:
        run = begin(cluster, undetected, ACCURACY)
        complaint = re.compile(r"Slurm jobs? waits?, .*(DRAINED|ReqNodeNotAvail)")
        wait_for(lambda: complaint.search((undetected / "said").read_text()), 150, "the complaint")
    finally:
        for node in NODES:
            cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")
    end(run, undetected)
    assert same(undetected, here)


def test_a_node_without_the_environment_is_told(cluster, undetected, tmp_path):
    """The head's Python is gone by the time that the job starts: on a node that lacks it, it never was there."""
    own = tmp_path / "venv"
    own.symlink_to(Path(sys.executable).parents[1])
    cluster.ask("scontrol", "update", "partition=main", "state=down")
    try:
        run = begin(cluster, undetected, ACCURACY, python=str(own / "bin/python"), options=[*QUICK, "--retries", "0"])
        wait_for(lambda: cluster.jobs("PENDING"), 120, "a job that waits")
        own.unlink()
        wait_for(lambda: "Slurm jobs wait, PartitionDown: " in (undetected / "said").read_text(), 60, "the complaint")
    finally:
        cluster.ask("scontrol", "update", "partition=main", "state=up")
    said = end(run, undetected, status=1)
    assert re.search(rf"FAILED on node\d: .*{own}/bin/python: not found; log: ", said)


def test_a_job_knows_the_devices_that_it_was_given(cluster):
    """Two jobs on a node with two devices, at the same time: each has one of its own; a third asks for none."""
    say = "import time; from detport import slurm; print(slurm.devices(['npu']), flush=True); time.sleep(3)"
    environment = cluster.environment | {"PYTHONPATH": str(ROOT / "scripts")}
    command = ["srun", "--nodelist", "node1", "--ntasks", "1"]
    first, second = (
        subprocess.Popen(
            [*command, "--gres", "npu:1", sys.executable, "-c", say], env=environment, stdout=-1, text=True
        )
        for _ in range(2)
    )
    assert sorted([first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]]) == ["[0]\n", "[1]\n"]
    assert subprocess.check_output([*command, sys.executable, "-c", say], env=environment, text=True) == "None\n"


def test_a_full_disk_of_a_node_is_told(cluster, undetected):
    disks = [cluster.disk(node) for node in NODES]
    for disk in disks:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=False)
        if mounted.returncode != 0:
            pytest.skip("needs the right to mount a small file system")
    try:
        said = finish(cluster, undetected, ACCURACY, options=[*QUICK, "--retries", "0"], status=1)
    finally:
        for disk in disks:
            subprocess.run(["umount", disk], check=True)
    assert re.search(r"Slurm job .* FAILED on node\d: preprocess: error: .*No space left on device.*; log: ", said)


def test_what_a_killed_job_left_on_a_node_is_removed_by_the_next(cluster, tmp_path):
    """A folder whose lock nobody holds is nobody's; one that is held counts, and who finds no room waits."""
    script = f'. \'{ROOT}/scripts/scratch.sh\' 60 100; touch "$scratch/tensor"; echo "$scratch"; '
    options = {"env": os.environ | {"DETPORT_SCRATCH": str(tmp_path)}, "stdout": -1, "text": True}
    bash = ["bash", "-euo", "pipefail", "-c"]
    killed = subprocess.run([*bash, script + "kill -9 $$"], check=False, **options)
    left = Path(killed.stdout.strip())
    assert (left / "tensor").exists()
    alive = subprocess.Popen([*bash, script + "read"], stdin=-1, **options)
    held = Path(alive.stdout.readline().strip())
    assert held.exists()
    assert not left.exists()
    third = subprocess.Popen([*bash, script], stderr=-1, **options)
    assert "waiting: 60 of 100 MB" in third.stderr.readline()
    alive.communicate("\n")
    third.communicate(timeout=30)
    assert third.returncode == 0
    assert not list(tmp_path.iterdir())
