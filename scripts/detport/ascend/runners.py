"""ais_bench, msame and benchmark: their command lines, their outputs, and a verdict that trusts files, not statuses.

Each run has a scratch folder of its own, so that nothing of an earlier run is mistaken for its own. In it are the
compiled model, a folder `bins` (or an .info file) with the inputs, and what the tool leaves. Inputs are named by
their number in the shard: ais_bench cuts names at the first dot, builds of 2024 refuse most characters, and old
versions number their outputs instead of naming them.
"""

import os
import platform
import shlex
import shutil
import stat
import sys
from pathlib import Path

from detport import cli
from detport.ascend import logs, tools
from detport.ascend.npu import Lease
from detport.errors import Failure, UsageError

DEFAULT_COMMANDS = {
    "ais_bench": ["python", "-m", "ais_bench"],
    "msame": ["msame"],
    "benchmark": [f"benchmark.{platform.machine()}"],
}
DEFAULT_LOOP = 100
BINS, INFO = "bins", "shard.info"


def inference_command(backend: dict, name: str, size: dict, device: int) -> list[str]:
    """The guides' command over the staged inputs; a device is named where it is not the tool's own default, 0."""
    runner = backend["runner"]
    if runner["tool"] == "ais_bench":
        where = ["./", "--outfmt", runner["outfmt"], "--batchsize", f"{logs.BATCH}"]
        # Before September 2022 there was no --output_dirname, and a folder named by the time was made.
        folder = ["--output_dirname", "result"] if runner["names"] == "stem" else []
        arguments = ["--model", f"{name}.om", "--input", BINS, "--output", *where, *folder]
        arguments += ["--device", f"{device}"] if device else []
    elif runner["tool"] == "msame":
        arguments = ["--model", f"./{name}.om", "--input", f"./{BINS}", "--output", "./out/"]
        arguments += ["--outfmt", runner["outfmt"]]
        arguments += ["--device", f"{device}"] if device else []
    else:
        arguments = ["-model_type=vision", f"-device_id={device}", f"-batch_size={logs.BATCH}", f"-om_path={name}.om"]
        arguments += [f"-input_text_path=./{INFO}", f"-input_width={size['width']}", f"-input_height={size['height']}"]
        arguments += ["-output_binary=True", "-useDvpp=False"]
    return [*program(backend), *arguments]


def speed_command(backend: dict, name: str, device: int) -> list[str]:
    """The tool's pure inference: no inputs but zeros, nothing written."""
    loop = backend.get("loop", DEFAULT_LOOP)
    if backend["runner"]["tool"] == "benchmark":
        arguments = [f"-round={loop}", f"-om_path={name}.om", f"-batch_size={logs.BATCH}", f"-device_id={device}"]
    else:
        arguments = ["--model", f"./{name}.om", "--loop", f"{loop}"]
        arguments += ["--batchsize", f"{logs.BATCH}"] if backend["runner"]["tool"] == "ais_bench" else []
        arguments += ["--device", f"{device}"] if device else []
    return [*program(backend), *arguments]


def program(backend: dict) -> list[str]:
    """How the tool is called; a program that the yaml gives by a path is found from any folder."""
    runner = backend["runner"]
    if runner["tool"] == "benchmark" and runner["outfmt"] == "TXT":
        raise UsageError(
            f"backend {backend['name']}: runner.outfmt: TXT loses integers with benchmark, which writes every output"
            " as if it were float32; use BIN"
        )
    words = runner.get("command", DEFAULT_COMMANDS[runner["tool"]])
    return [str(Path(word).resolve()) if "/" in word and Path(word).exists() else word for word in words]


def stage(folder: Path, compiled: Path, name: str, inputs: list[tuple[dict, Path]], size: dict) -> list[str]:
    """Put the model and the inputs into the scratch folder; the stem of each image's input, in order."""
    (folder / BINS).mkdir(mode=0o750)
    place(compiled, folder / f"{name}.om")
    stems = [f"{i:06d}" for i in range(len(inputs))]
    lines = []
    for i, (stem, (image, path)) in enumerate(zip(stems, inputs, strict=True)):
        if not path.is_file() or path.stat().st_size != image["bytes"]:
            raise Failure(f"{image['file']!r}: {path} is missing or not {image['bytes']} bytes; make the shard again")
        place(path, folder / BINS / f"{stem}.bin")
        lines.append(f"{i} ./{BINS}/{stem}.bin {size['width']} {size['height']}\n")
    (folder / INFO).write_text("".join(lines), encoding="utf-8")
    return stems


def place(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the tools of 2024 would refuse it: writable by others, a link."""
    source = source.resolve()
    own = source.stat()
    if own.st_uid == os.getuid() and not own.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        try:
            target.hardlink_to(source)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(source, target)
    target.chmod(0o640)


def run(arguments: list[str], folder: Path, lease: Lease, minutes: float) -> str:
    """Run a tool in its scratch folder, for as long as it is never silent for so many minutes; it holds the lock of its
    device. Its lines go to our log as they come. Returns all it said."""
    print(f"$ {shlex.join(arguments)}", file=sys.stderr, flush=True)
    try:
        status, said = tools.run(arguments, folder, minutes, cli.own_log(), sys.stderr.write, (lease.lock,))
    except (FileNotFoundError, PermissionError) as error:
        remedy = "install it, put it on the PATH, make it executable, or set runner.command in the backend's yaml"
        raise UsageError(f"{arguments[0]}: {error.strerror}; {remedy}") from error
    require_success(arguments, status, said)
    return said


def require_success(arguments: list[str], status: int, said: str) -> None:
    """A status other than 0 is a failure; what a tool with status 0 leaves undone is found by its outputs."""
    if status == 0:
        return
    tool = shlex.join(arguments[:3])
    if "No module named" in said:
        raise UsageError(f"{tool}: {said.strip().splitlines()[-1]}; install the wheels aclruntime and ais_bench")
    if tools.was_killed(status):
        raise Failure(f"{tool} {tools.KILLED}")
    raise Failure(f"{tool} ended with status {status}: {complaint(said)}")


def complaint(said: str) -> str:
    """The tool's own words on what went wrong, with a remedy where the cause is known."""
    lines = logs.errors(said) or said.strip().splitlines()[-1:] or ["it said nothing"]
    text = "; ".join(lines[:3])
    if "load model" in text:
        return (
            f"{text} (is the .om built for this chip? soc_version and the devices must go together; or was it"
            " cut off by a full disk? then compile again)"
        )
    if "open device" in text:
        return f"{text} (is the id under devices right, and the device free? see npu-smi info)"
    if "No space left" in said:
        return f"{text} (free some disk, or use more and smaller shards)"
    return text


def output_folder(folder: Path, tool: str, device: int) -> Path:
    """Where a run has written, among what is new in its scratch folder."""
    if tool == "benchmark":
        return folder / "result" / f"dumpOutput_device{device}"
    parent = folder / "out" if tool == "msame" else folder
    made = [path for path in parent.iterdir() if path.is_dir() and path.name != BINS] if parent.is_dir() else []
    return made[0] if len(made) == 1 else folder / "result"


def output_stem(backend: dict, stem: str) -> str:
    """The stem that the tool's outputs of an input have."""
    return {"stem": stem, "sample_id": f"sample_id_{int(stem)}", "input": f"input{int(stem)}"}[
        backend["runner"]["names"]
    ]


def output_pattern(backend: dict) -> str:
    """How the tool names the outputs of a stem, as detport.outputs understands it."""
    runner = backend["runner"]
    era = runner["tool"] == "msame" or runner["names"] != "stem"
    return f"{{stem}}{'_output' if era else ''}_{{i}}.{runner['outfmt'].lower()}"
