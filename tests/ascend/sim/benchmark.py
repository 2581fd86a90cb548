"""benchmark.x86_64: an .info file in, ./result out, outputs numbered from 1; or pure inference with -round."""

import sys
import time
from pathlib import Path

import numpy as np

from sim import device, files, flags, machine

OPTIONS = set(
    """
    model_type batch_size device_id om_path input_text_path input_imgFiles_path input_width input_height output_binary
    useDvpp round help
    """.split()  # noqa: SIM905
)
TYPES = ("vision", "nmt", "widedeep", "nlp", "yolocaffe", "bert", "deepfm")


def main(arguments: list[str]) -> int:
    try:
        options = flags.parse(arguments, OPTIONS)
    except flags.FlagError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    if "help" in options:
        print("usage: benchmark\n" + "\n".join(f"  -{name}" for name in sorted(OPTIONS)))
        return 0
    machine.begin()
    if options.get("useDvpp", "false").lower() == "true" or "input_imgFiles_path" in options:
        print("[ERROR] the simulator does not do useDvpp or input_imgFiles_path")
        return 1
    try:
        number = flags.number(options, "device_id", 0, 0, 255)
        batch = flags.number(options, "batch_size", 1, 1, 1024)
        if machine.soc(number) is None:
            raise device.DeviceError(f"acl open device {number} failed")
        if options.get("model_type", "vision") not in TYPES or not options.get("om_path"):
            raise device.DeviceError("check model_type and om_path")
        model = device.load(Path(options["om_path"]), number)
        if model.inputs[0]["shape"][0] != batch:
            raise device.DeviceError(f"input size error: the om has batch {model.inputs[0]['shape'][0]}, not {batch}")
        if "round" in options:
            return pure(model, options, number, batch)
        return dataset(model, options, number, batch)
    except (device.DeviceError, flags.FlagError) as error:
        print(f"[ERROR] {error}")
        return 0  # as its ancestor; nothing but the files tells


def pure(model: device.Model, options: dict, number: int, batch: int) -> int:
    rounds = flags.number(options, "round", 1, 1, 1024)
    costs = []
    for i in range(rounds):
        costs.append(timed(model, [np.zeros(size, np.uint8) for size in model.bytes_per_input()])[0] * 1000)
        print(f"[INFO] Dataset number: {i} finished cost {costs[-1]:.6g}ms")
    latency = sum(costs) / rounds / batch
    path = f"./result/PureInfer_perf_of_{Path(options['om_path']).stem}_in_device_{number}.txt"
    Path("result").mkdir(exist_ok=True)
    Path(path).write_text(
        f"ave_throughputRate = {1000 / latency:.6g}samples/s, ave_latency = {latency:.6g}ms\n{machine.NOTE}\n",
        encoding="utf-8",
    )
    print(f"[INFO] PureInfer result saved in {path}")
    print("-----------------PureInfer Performance Summary------------------")
    print(f"[INFO] ave_throughputRate: {1000 / latency:.6g}samples/s, ave_latency: {latency:.6g}ms")
    print("----------------------------------------------------------------")
    return 0


def dataset(model: device.Model, options: dict, number: int, batch: int) -> int:
    info = Path(options.get("input_text_path", ""))
    if not info.is_file():
        raise device.DeviceError(f"open {info} failed")
    folder = Path("result") / f"dumpOutput_device{number}"
    folder.mkdir(parents=True, exist_ok=True)
    machine.mark(folder)
    began = time.perf_counter()
    costs = []
    for line in info.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) < 2 or not Path(fields[1]).is_file():
            print(f"[ERROR] {info}: no file in the line {line!r}")
            continue
        path = Path(fields[1])
        data = np.fromfile(path, np.uint8)
        if data.nbytes != model.bytes_per_input()[0]:
            print(f"[ERROR] {path}: size {data.nbytes} is not the model's")
            continue
        seconds, arrays = timed(model, [data])
        costs.append(seconds)
        for k, array in enumerate(arrays, 1):
            if options.get("output_binary", "false").lower() == "true":
                files.write_output(folder / f"{path.stem}_{k}.bin", array.tobytes(), path.stem)
            else:  # every output is taken for float32
                numbers = np.frombuffer(array.tobytes(), np.float32)
                text = "".join(f"{value:f} " for value in numbers)
                files.write_output(folder / f"{path.stem}_{k}.txt", text.encode(), path.stem)
    kind = options.get("model_type", "vision")
    summary = report(costs, time.perf_counter() - began)
    (Path("result") / f"perf_{kind}_batchsize_{batch}_device_{number}.txt").write_text(
        f"{summary}{machine.NOTE}\n", encoding="utf-8"
    )
    print(f"-----------------Performance Summary------------------\n{summary}" + "-" * 53)
    return 0


def report(costs: list[float], total: float) -> str:
    """The five lines of the summary."""
    count = max(len(costs), 1)
    rate, each = count / max(total, 1e-9), total * 1000 / count
    mean = sum(costs) / count or 1e-9
    other = f"throughputRate: {rate * 3:.6g}, moduleLatency: {each / 3:.6g}"
    return (
        f"[e2e] throughputRate: {rate:.6g}, latency: {total * 1000:.6g}\n"
        f"[data read] {other}\n[preprocess] {other}\n"
        f"[inference] throughputRate: {1 / mean:.6g}, Interface throughputRate: {1 / mean:.6g},"
        f" moduleLatency: {mean * 1000:.6g}\n[postprocess] {other}\n"
    )


def timed(model: device.Model, inputs: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    arrays = [data.view(entry["dtype"]) for data, entry in zip(inputs, model.inputs, strict=True)]
    began = time.perf_counter()
    results = model.run(arrays)
    return time.perf_counter() - began, results
