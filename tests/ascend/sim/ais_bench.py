"""ais_bench, and ais_infer.py before it: several inputs per batch, outputs split per input and numbered from 0."""

import argparse
import datetime
import json
import os
import re
import stat
import time
from pathlib import Path

import numpy as np

from sim import device, files, machine

REFUSED_IN_PATHS = re.compile(r"[^A-Za-z0-9_./-]")


def parser(era: str) -> argparse.ArgumentParser:
    """The options of a version, each with its own; an unknown one ends with status 2."""
    old, newest = era < "2023", era >= "2024"
    found = argparse.ArgumentParser(prog="ais_bench", allow_abbrev=False)
    found.add_argument("--model", "-m", *(["--om"] if old else []), required=True)
    found.add_argument("--input", "-i")
    found.add_argument("--output", "-o")
    found.add_argument("--outfmt", choices=["BIN", "NPY", "TXT"], default="BIN")
    found.add_argument("--loop", "-l", *(["-r"] if old else []), type=positive, default=1)
    found.add_argument("--batchsize", type=positive, default=1 if old else None)
    found.add_argument("--device", "-d", *(["--device_id"] if old else []), type=device_ids, default=[0])
    found.add_argument("--debug", type=boolean, default=False)
    found.add_argument("--display_all_summary", type=boolean, default=False)
    found.add_argument("--dymBatch", type=int, default=0)
    for name in ("--dymHW", "--dymDims", "--dymShape", "--outputSize", "--acl_json_path"):
        found.add_argument(name)
    for name in ("--profiler", "--dump", "--auto_set_dymshape_mode"):
        found.add_argument(name, type=boolean, default=False)
    if era >= "2022-07":
        found.add_argument("--warmup_count", type=int, default=1)
        found.add_argument("--pure_data_type", choices=["zero", "random"], default="zero")
        found.add_argument("--output_batchsize_axis", type=int, default=0)
    if era >= "2022-09":
        found.add_argument("--output_dirname")
        found.add_argument("--run_mode", choices=["array", "files", "tensor", "full"], default="array")
        found.add_argument("--auto_set_dymdims_mode", type=boolean, default=False)
        found.add_argument("--dymShape_range")
    if era == "2022-09":
        found.add_argument("--infer_queue_count", type=int, default=20)
    if newest:
        for name in ("--aipp_config", "--backend", "--perf"):
            found.add_argument(name)
        for name in ("--energy_consumption", "--pipeline", "--profiler_rename", "--dump_npy", "--divide_input"):
            found.add_argument(name, type=boolean, default=False)
        found.add_argument("--npu_id", type=int, default=0)
        found.add_argument("--threads", type=positive, default=1)
    return found


# Options that change what is computed or written in a way that the simulator does not follow.
UNSUPPORTED = (
    *("dymBatch", "dymHW", "dymDims", "dymShape", "dymShape_range", "outputSize", "acl_json_path", "profiler"),
    *("auto_set_dymshape_mode", "auto_set_dymdims_mode", "output_batchsize_axis", "aipp_config", "backend", "perf"),
    *("energy_consumption", "pipeline", "divide_input"),
)


def require_options(args: argparse.Namespace, found: argparse.ArgumentParser, era: str) -> None:
    """What the tool refuses before it starts, with status 2."""
    if args.output_dirname and not args.output:
        found.error("when dump output dirname, miss output path")
    if (args.profiler or args.dump) and not args.output:
        found.error("when dump or profiler, miss output path, please check them!")
    if args.profiler and args.dump:
        found.error("parameter --profiler cannot be true at the same time as parameter --dump")
    if era >= "2024" and (not args.model.endswith(".om") or (args.output_dirname or ".").startswith("/")):
        found.error("the model must end in .om, output_dirname must be relative")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def device_ids(text: str) -> list[int]:
    """0 to 255, separated by commas."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} is not a list of device ids from 0 to 255")
    return [int(part) for part in parts]


def boolean(text: str) -> bool:
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected. true, 1, false, 0 etc.")


def main(arguments: list[str]) -> int:
    era = machine.era()
    found = parser(era)
    args = found.parse_args(arguments)
    args.output_dirname = getattr(args, "output_dirname", None)
    require_options(args, found, era)
    machine.begin()
    for name in UNSUPPORTED:
        if getattr(args, name, None) not in (None, False, 0):
            print(f"[ERROR] the simulator does not do --{name}")
            return 1
    if args.dump != getattr(args, "dump_npy", False):
        print("[ERROR] the simulator dumps with --dump and --dump_npy together, or not at all")
        return 1
    if len(args.device) > 1 or getattr(args, "threads", 1) > 1:
        print("[ERROR] the simulator does not run on several devices or threads")
        return 1
    number = args.device[0]
    try:
        paths = input_files(args.input, era) if args.input else []
    except ValueError as error:
        print(f"[ERROR] {error}")
        return 1
    if era >= "2024":
        for path in filter(None, (args.model, *(args.input or "").split(","), args.output)):
            check_permissions(Path(path))
    print("[INFO] acl init success")
    if machine.soc(number) is None:
        print(f"[ERROR] acl open device {number} failed")
        raise RuntimeError("[1][ACL:invalid parameter]")
    print(f"[INFO] open device {number} success")
    try:
        model = device.load(Path(args.model), number)
    except device.DeviceError as error:
        print(f"[ERROR] load model from file failed, model file is {args.model}")
        raise RuntimeError("[1][ACL:invalid parameter]") from error
    print(f"[INFO] load model {args.model} success\n[INFO] create model description success")
    batch = args.batchsize or model.inputs[0]["shape"][0]
    if era >= "2023":
        print(f"[INFO] try get model batchsize:{model.inputs[0]['shape'][0]}")
    folder = output_folder(args)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        machine.mark(folder)
        print(f"[INFO] output path:{folder}")
    written: dict[str, dict] = {}
    model.dump = args.dump
    times = run_files(model, paths, args, folder, written) if args.input else run_pure(model, args, folder)
    if args.dump:
        dump(model, Path(args.output) / "dump")
    summary(times, batch, args, folder, written)
    print("[INFO] unload model success, model Id is 1\n[INFO] end to destroy context")
    print(f"[INFO] end to reset device is {number}\n[INFO] end to finalize acl")
    return 0


def check_permissions(path: Path) -> None:
    """What builds of 2024 refuse."""
    entries = [path, *path.iterdir()] if path.is_dir() else [path]
    for entry in entries:
        if REFUSED_IN_PATHS.search(str(entry)) or entry.is_symlink():
            raise RuntimeError(f"{entry}: path has characters that are not allowed, or is a symbolic link")
        if entry.is_file() and entry.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RuntimeError(f"{entry}: may be written by group or others")


def output_folder(args: argparse.Namespace) -> Path | None:
    if not args.output:
        return None
    stamp = datetime.datetime.now().strftime("%Y_%m_%d-%H_%M_%S")
    return Path(args.output) / (args.output_dirname or stamp)


def digits_first(path: Path) -> list:
    """2.bin before 10.bin."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def input_files(text: str, era: str) -> list[Path]:
    """The files of one folder in the tool's order, or a list of files as it is given."""
    entries = [Path(entry) for entry in text.split(",")]
    missing = [str(entry) for entry in entries if not entry.exists()]
    if missing:
        raise ValueError(f"input {', '.join(missing)} does not exist")
    if not entries[0].is_dir():
        return entries
    if len(entries) > 1:
        raise ValueError("the simulator takes one folder, for one input")
    paths = [path for path in entries[0].iterdir() if path.suffix in (".bin", ".BIN", ".npy", ".NPY")]
    if not paths:
        raise ValueError(f"input {text} has no .bin or .npy file")
    return sorted(paths, key=(lambda path: path.name) if era == "2022-06" else digits_first)


def content(path: Path) -> np.ndarray:
    """Bytes of an input file."""
    return np.load(path).reshape(-1).view(np.uint8) if path.suffix.lower() == ".npy" else np.fromfile(path, np.uint8)


def run_files(
    model: device.Model, paths: list[Path], args: argparse.Namespace, folder: Path | None, written: dict
) -> list[float]:
    """Every file, as many per run as the input holds; the last batch is filled with its first file."""
    era = machine.era()
    tensor, size = model.bytes_per_input()[0], content(paths[0]).nbytes
    if size == 0 or tensor % size:
        print(f"[ERROR] arg0 tensorsize: {tensor} filesize: {size} not match")
        raise RuntimeError("[1][ACL:invalid parameter]")
    each = tensor // size
    runs = -(-len(paths) // each)
    print(f"[INFO] get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{each} runcount:{runs}")
    run_once(model, [np.zeros(tensor, np.uint8)])
    print("[INFO] warm up 1 done")
    times, numbered = [], 0
    for first in range(0, len(paths), each):
        batch = paths[first : first + each]
        filled = batch + [batch[0]] * (each - len(batch))
        seconds, arrays = run_once(model, [np.concatenate([content(path) for path in filled])])
        times.append(seconds)
        for k, path in enumerate(batch):
            made = []
            for i, array in enumerate(arrays if folder else []):
                part = array if each == 1 else np.array_split(array, each)[k]
                made.append(folder / output_stem(path, numbered, i, era))
                write(part, made[-1], args.outfmt, path.name.split(".")[0])
            names = [f"{name}.{args.outfmt.lower()}" for name in made]
            written[str(numbered)] = {"infiles": [str(path)], "outfiles": names}
            numbered += 1
    print("Inference array Processing: 100%|##########|")
    return times


def output_stem(path: Path, number: int, i: int, era: str) -> str:
    if era <= "2022-06":
        return f"sample_id_{number}_output_{i}"
    if era <= "2022-07":
        return f"input{number}_output_{i}"
    return f"{path.name.split('.')[0]}_{i}"


def run_pure(model: device.Model, args: argparse.Namespace, folder: Path | None) -> list[float]:
    inputs = [np.zeros(size, np.uint8) for size in model.bytes_per_input()]
    run_once(model, inputs)
    print("[INFO] warm up 1 done")
    times = []
    for i in range(args.loop):
        seconds, arrays = run_once(model, inputs)
        times.append(seconds)
        print(f"loop inference exec: ({i + 1}/{args.loop})", end="\r")
    print()
    for i, array in enumerate(arrays if folder else []):
        write(array, folder / f"pure_infer_data_{i}", args.outfmt, "pure_infer_data")
    return times


def run_once(model: device.Model, inputs: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    arrays = [data.view(entry["dtype"]) for data, entry in zip(inputs, model.inputs, strict=True)]
    began = time.perf_counter()
    results = model.run(arrays)
    return time.perf_counter() - began, results


def dump(model: device.Model, folder: Path) -> None:
    """The tensors of the last run as .npy, named as msaccucmp.py names what it converts; the real tool keeps those of
    every run, and the files that it converts."""
    stamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")
    place = folder / f"{stamp}_npy"
    place.mkdir(parents=True)
    for task, (kind, name, outputs) in enumerate(model.meta["nodes"]):
        for i, output in enumerate(outputs):
            array = model.dumped.get(output)
            if array is not None:
                plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
                shape = "x".join(map(str, array.shape))
                np.save(place / f"{kind}.{plain}.{task}.1.{stamp}00.output.{i}.{shape}.npy", array)


def write(array: np.ndarray, path: Path, form: str, stem: str) -> None:
    if form == "NPY":
        np.save(f"{path}.npy", array)
    elif form == "TXT":
        text = files.rows_of_text(array, "%f" if array.dtype.kind == "f" else "%d")
        files.write_output(Path(f"{path}.txt"), text, stem)
    else:
        files.write_output(Path(f"{path}.bin"), array.tobytes(), stem)


def summary(times: list[float], batch: int, args: argparse.Namespace, folder: Path | None, written: dict) -> None:
    era = machine.era()
    ms = np.array(times) * 1000
    figures = {"min": ms.min(), "max": ms.max(), "mean": ms.mean(), "median": np.median(ms)}
    figures["percentile(99%)"] = np.percentile(ms, 99)
    line = ", ".join(f"{name} = {float(value)}" for name, value in figures.items())
    mean = float(ms.mean())
    formula = {
        "2022-06": "throughput (1000*batchsize/NPU_compute_time)",
        "2022-07": "throughput (1000*batchsize/NPU_compute_time)",
        "2022-09": f"throughput 1000*batchsize({batch})/NPU_compute_time.mean({mean})",
        "2022-11": f"throughput 1000*batchsize({batch})/NPU_compute_time.mean({mean})",
    }.get(era, f"throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean})")
    print("[INFO] -----------------Performance Summary------------------")
    if args.display_all_summary:
        print(f"[INFO] H2D_latency (ms): {line}")
    print(f"[INFO] NPU_compute_time (ms): {line}")
    if args.display_all_summary:
        print(f"[INFO] D2H_latency (ms): {line}")
    print(f"[INFO] {formula}: {1000 * batch / mean}")
    print("[INFO] ------------------------------------------------------")
    if folder:
        path = folder / "sumary.json" if era < "2022-11" else folder.with_name(f"{folder.name}_summary.json")
        span = {name: float(value) for name, value in figures.items()} | {"count": len(times)}
        nothing = dict.fromkeys(span, 0.0) | {"count": len(times)}  # copies cost nothing here
        stated = {"filesinfo": written, "args": vars(args), "NPU_compute_time": span, "H2D_latency": nothing}
        stated |= {"D2H_latency": nothing, "throughput": 1000 * batch / mean, "pid": os.getpid()}
        path.write_text(json.dumps(stated | {"npu_compute_time_list": ms.tolist()}), encoding="utf-8")
