"""Ascend: one of three tools runs compiled models on a device, and its own lines tell the speed."""

import contextlib
import shlex
from pathlib import Path

from detport import cli, outputs, timing
from detport.ascend import logs, npu, runners
from detport.backends import local
from detport.errors import Failure
from detport.files import scratch


def infer(
    compiled: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run all images on one device, by one call of the tool; whether that was a simulated one."""
    del threads  # the device computes
    tool = backend["runner"]["tool"]
    with npu.lease_one(backend["devices"]) as lease, scratch(place / "run") as folder:
        stems = runners.stage(folder, compiled, model["name"], inputs, model["input"])
        arguments = runners.inference_command(backend, model["name"], model["input"], lease.device)
        said = runners.run(arguments, folder, lease)
        made = runners.output_folder(folder, tool, lease.device)
        simulated = logs.simulated(said) or outputs.simulated(made)
        pattern = runners.output_pattern(backend)
        try:
            for stem, (image, _) in zip(stems, inputs, strict=True):
                own = runners.output_stem(backend, stem)
                write(image, list(outputs.read(made, own, pattern, model["outputs"], image["file"]).values()))
                for path in outputs.files(made, own, pattern, model["outputs"]):
                    path.unlink()  # never a whole shard of outputs twice on disk
        except Failure as error:
            complaint = "; ".join(logs.errors(said)[:3])
            raise Failure(f"{error}{f' ({tool} said: {complaint})' if complaint else ''}") from error
    cli.log.info("ran on device %d", lease.device)
    return simulated


def measure(compiled: Path, model: dict, backend: dict, threads: int) -> dict:
    """Speed by the tool's pure inference: of one device alone, then of all that the backend may use at once."""
    del threads
    devices = sorted(backend["devices"])
    with npu.lease_all(devices) as leases:
        first = run_together(compiled, model, backend, leases[:1])[0]
        together = run_together(compiled, model, backend, leases) if len(leases) > 1 else []
    found = logs.with_card(first, together, backend)
    return found | {"input": "zeros", "machine": timing.machine() | {"devices": devices}}


def run_together(compiled: Path, model: dict, backend: dict, leases: list[npu.Lease]) -> list[dict]:
    """Start the tool on every device at the same time; what each says of its speed."""
    with contextlib.ExitStack() as stack:
        started = []
        for lease in leases:
            place = stack.enter_context(scratch(compiled.with_name(f"speed-{lease.device}")))
            runners.place(compiled, place / f"{model['name']}.om")
            arguments = runners.speed_command(backend, model["name"], lease.device)
            cli.log.info("%s", shlex.join(arguments))
            said = place / "said.txt"
            with said.open("w") as file:
                process = stack.enter_context(runners.start(arguments, place, lease, file))
            started.append((arguments, process, said))
        return [
            speed(arguments, process.wait(), said.read_text(errors="replace")) for arguments, process, said in started
        ]


def speed(arguments: list[str], status: int, said: str) -> dict:
    """What a run says of its speed; a run that says nothing has failed, whatever its status."""
    runners.require_success(arguments, status, said)
    found = logs.parse(said, logs.BATCH)
    if found is None:
        raise Failure(f"{arguments[0]} says nothing of its speed: {runners.complaint(said)}")
    return found


def versions() -> dict[str, str]:
    """What a report should name."""
    return npu.toolkit_versions()
