"""msame: model, input folder or file, outputs numbered from 0; exits 0 on most mistakes."""

import datetime
import os
import time
from pathlib import Path

import numpy as np

from sim import device, files, flags, machine

OPTIONS = {"model", "input", "output", "outfmt", "loop", "device", "debug", "profiler", "dump", "help"}
DYNAMIC = ("dymBatch", "dymHW", "dymDims", "dymShape")
OPTIONS |= {*DYNAMIC, "outputSize"}
USAGE = """usage:
  --model             om model path
  --input             input data path
  --output            output path
  --outfmt            output format(TXT or BIN)
  --loop              loop time(must in 1 to 100)
  --device            designated the device ID(must in 0 to 255)"""


def main(arguments: list[str]) -> int:
    if not arguments:
        print("[ERROR] no options\n" + USAGE)
        return 1
    try:
        options = flags.parse(arguments, OPTIONS)
    except flags.FlagError as error:
        print(f"msame: {error}\n{USAGE}")
        return 0
    path, dynamic = options.get("model", ""), [name for name in DYNAMIC if name in options]
    both = all(options.get(name) == "true" for name in ("profiler", "dump"))
    try:
        loop, number = flags.number(options, "loop", 1, 1, 100), flags.number(options, "device", 0, 0, 255)
        if "help" in options or ".om" not in path or len(dynamic) > 1 or both:
            raise flags.FlagError("check the model; at most one of dymXxx, and profiler or dump")
    except flags.FlagError as error:
        print(f"[ERROR] {error}\n{USAGE}")
        return 0
    folder = options.get("input")
    if folder and not Path(folder.split(",")[0]).exists():
        print(f"[ERROR] input {folder} does not exist")
        return 0
    machine.begin()
    more = [name for name in ("profiler", "dump") if options.get(name) == "true"]
    unsupported = [*dynamic, *(name for name in ("outputSize",) if name in options), *more]
    if unsupported or "," in (folder or ""):
        print(f"[ERROR] the simulator does not do {', '.join(unsupported) or 'several inputs'}")
        return 1
    try:
        start(path, number)
        model = device.load(Path(path), number)
        print(f"[INFO] load model {path} success")
        for what in ("model description", "input dynamic gear count", "model output"):
            print(f"[INFO] {'get' if 'gear' in what else 'create'} {what} success")
    except device.DeviceError as error:
        print(f"[ERROR] {error}\n[ERROR] load model from file failed, model file is {path}")
        print("[ERROR] Sample process failed")
        return 1
    output = make_folder(options["output"]) if "output" in options else None
    if folder is None:
        run_loop(model, [np.zeros(size, np.uint8) for size in model.bytes_per_input()], loop, output, options)
    elif folder.endswith(".bin"):
        if Path(folder).stat().st_size != model.bytes_per_input()[0]:
            print(f"[ERROR] input {folder} is not of the model's size\n[ERROR] Sample process failed")
            return 1
        run_loop(model, [np.fromfile(folder, np.uint8)], loop, output, options)
    else:
        run_folder(model, Path(folder), output, options)
    print("[INFO] unload model success, model Id is 1")
    print(f"[INFO] pid: {os.getpid()} Execute sample success")
    print("[INFO] end to destroy stream\n[INFO] end to destroy context")
    print(f"[INFO] end to reset device is {number}\n[INFO] end to finalize acl")
    return 0


def start(path: str, number: int) -> None:
    print("[INFO] acl init success")
    if machine.soc(number) is None:
        raise device.DeviceError(f"acl open device {number} failed")
    print(f"[INFO] open device {number} success\n[INFO] create context success\n[INFO] create stream success")
    print("[INFO] get run mode success")


def make_folder(parent: str) -> Path:
    """OUTPUT/STAMP as since September 2021; only the last level of OUTPUT is created."""
    now = datetime.datetime.now()
    stamp = f"{now.year}{now.month}{now.day}_{now.hour}_{now.minute}_{now.second}_{now.microsecond}"
    Path(parent).mkdir(exist_ok=True)
    folder = Path(parent) / stamp
    folder.mkdir()
    machine.mark(folder)
    print(folder)
    return folder


def run_loop(model: device.Model, inputs: list[np.ndarray], loop: int, output: Path | None, options: dict) -> None:
    total = 0.0
    for _ in range(loop):
        seconds, arrays = timed(model, inputs)
        total += seconds
        print("[INFO] model execute success")
    print(f"Inference average time: {total / loop * 1000:.6f} ms")
    if output:
        write(arrays, output, Path(options["model"]).stem, options)
    print("[INFO] output data success")


def run_folder(model: device.Model, folder: Path, output: Path | None, options: dict) -> None:
    """One inference per file, in the order of the names' bytes; a file that fails is left out."""
    times = []
    for path in sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: os.fsencode(p.name)):
        print(f"[INFO] start to process file:{folder}/{path.name}")
        data = np.fromfile(path, np.uint8)
        if data.nbytes != model.bytes_per_input()[0]:
            print(f"[ERROR] input {path.name} has {data.nbytes} bytes, the model takes {model.bytes_per_input()[0]}")
            continue
        seconds, arrays = timed(model, [data])
        times.append(seconds * 1000)
        print(f"[INFO] model execute success\nInference time: {times[-1]:g}ms")
        print("[INFO] get max dynamic batch size success")
        if output:
            write(arrays, output, path.stem, options)
        print("[INFO] output data success\n[INFO] destroy model input success")
    if times:
        print(f"Inference average time : {sum(times) / len(times):.2f} ms")
    if len(times) > 1:
        print(f"Inference average time without first time: {sum(times[1:]) / (len(times) - 1):.2f} ms")


def timed(model: device.Model, inputs: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    arrays = [data.view(entry["dtype"]) for data, entry in zip(inputs, model.inputs, strict=True)]
    began = time.perf_counter()
    results = model.run(arrays)
    return time.perf_counter() - began, results


def write(arrays: list[np.ndarray], folder: Path, stem: str, options: dict) -> None:
    for i, array in enumerate(arrays):
        if options.get("outfmt") == "TXT":  # C++ streams: six significant digits, integers whole
            data = files.rows_of_text(array, "%g" if array.dtype.kind == "f" else "%d")
            files.write_output(folder / f"{stem}_output_{i}.txt", data, stem)
        else:
            files.write_output(folder / f"{stem}_output_{i}.bin", array.tobytes(), stem)
