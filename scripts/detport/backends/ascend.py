"""Ascend: one of three tools runs compiled models on a device, and its own lines tell the speed."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detport import cli, outputs, timing
from detport.ascend import atc, logs, npu, runners
from detport.backends import local
from detport.errors import Failure
from detport.files import scratch


def infer(
    compiled: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run all images on one device, by one call of the tool; whether that was a simulated one."""
    del threads  # the device computes
    tool = backend["runner"]["tool"]
    with scratch(place / "run") as folder:
        stems = runners.stage(folder, compiled, model["name"], inputs, model["input"])
        with npu.lease_one(npu.allotted(backend)) as lease:  # for no longer than the tool runs: others wait for it
            arguments = runners.inference_command(backend, model["name"], model["input"], lease.device)
            said = runners.run(arguments, folder, lease, backend["stall_minutes"])
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
    devices = sorted(npu.allotted(backend))
    cards = npu.cards(devices, backend.get("devices_per_card", 1)) if len(devices) > 1 else {}
    with npu.lease_all(devices) as leases:
        first = run_together(compiled, model, backend, leases[:1])[0][0]
        together = run_together(compiled, model, backend, leases) if len(leases) > 1 else []
    runs = [
        logs.Run(said["fps"], lease.device, cards[lease.device], *span)
        for lease, (said, span) in zip(leases, together, strict=False)
    ]
    machine = {"chip": built_for(compiled)["soc_version"]} | timing.machine() | {"devices": devices}
    return logs.with_card(first, runs, backend) | {"input": "zeros", "machine": machine}


def run_together(
    compiled: Path, model: dict, backend: dict, leases: list[npu.Lease]
) -> list[tuple[dict, tuple[float, float]]]:
    """Start the tool on every device at the same time; what each says of its speed, and when it began and ended."""
    with ThreadPoolExecutor(len(leases)) as pool:
        return list(pool.map(lambda lease: run_alone(compiled, model, backend, lease), leases))


def run_alone(compiled: Path, model: dict, backend: dict, lease: npu.Lease) -> tuple[dict, tuple[float, float]]:
    """What the tool says of its speed on one device, and when it began and ended."""
    with scratch(compiled.with_name(f"speed-{lease.device}")) as place:
        runners.place(compiled, place / f"{model['name']}.om")
        arguments = runners.speed_command(backend, model["name"], lease.device)
        begin = time.monotonic()
        said = runners.run(arguments, place, lease, backend["stall_minutes"])
        return speed(arguments, said), (begin, time.monotonic())


def speed(arguments: list[str], said: str) -> dict:
    """What a run says of its speed; a run that says nothing has failed, whatever its status."""
    found = logs.parse(said, logs.BATCH)
    if found is None:
        raise Failure(f"{arguments[0]} says nothing of its speed: {runners.complaint(said)}")
    return found


def read_log(text: str, backend: dict) -> dict | None:
    """The speed that a tool's log states, if it does; chip and CANN, which it does not tell, are the yaml's."""
    found = logs.performance(text, backend)
    chip = backend.get("chip") if backend["soc_version"] == "auto" else backend["soc_version"]
    stated = {"machine": {"chip": f"{chip} by the yaml"} if chip else {}}
    return found and found | stated | {"versions": {"CANN by the yaml": backend["cann"]}}


def built_for(compiled: Path) -> dict:
    """Chip and CANN of a compiled model, from what the compile stage has left beside it."""
    beside = atc.description(compiled)
    if not beside.exists():
        return {"soc_version": "not known", "cann": "not known"}
    try:
        stated = json.loads(beside.read_text(encoding="utf-8"))
        return {key: str(stated[key]) for key in ("soc_version", "cann")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failure(f"{beside}: not what compile.py writes ({error!r}); compile again") from error


def versions(compiled: Path) -> dict[str, str]:
    """What a report should name."""
    return {"CANN": built_for(compiled)["cann"]}
