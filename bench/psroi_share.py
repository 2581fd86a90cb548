"""Where R-FCN's time goes in ONNX Runtime, by its own profile: convolutions, position-sensitive pooling, the rest.

    PYTHONPATH=scripts .venv/bin/python bench/psroi_share.py MODEL.onnx [RUNS]

The graph is optimised and then run on one thread, as the backend onnxruntime does. All that follows from the rois
belongs to the pooling, the vote included; `make full-size MODEL=rfcn` prints the same for the published size.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

CONVOLUTIONS = {"Conv", "FusedConv"}
SUFFIX = "_kernel_time"
START = "rois"  # the graph's output from which the pooling starts


def main() -> None:
    path, runs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for line in lines(path, runs):
        print(line)


def lines(path: Path, runs: int) -> list[str]:
    """Share and milliseconds per run of every group, the largest first."""
    times = group_times(path, runs)
    total = sum(times.values())
    found = [
        f"{name:<30}{100 * time / total:6.1f} %{time / runs / 1000:10.1f} ms" for name, time in times.most_common()
    ]
    return [f"{path}: one image, one thread, {total / runs / 1e6:.2f} s ({runs} runs)", *found]


def group_times(path: Path, runs: int) -> Counter:
    """Microseconds of all runs by group of nodes, without a first run that warms up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # an optimised graph is for this machine only, which is known
        options.optimized_model_filepath = str(folder / "optimised.onnx")  # its nodes are those of the profile
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (image,) = session.get_inputs()
        values = np.random.default_rng(0).normal(0, 50, image.shape).astype(np.float32)
        for _ in range(runs + 1):
            session.run(None, {image.name: values})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(folder / "optimised.onnx", load_external_data=False).graph
    groups = node_groups(graph)
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(SUFFIX)]
    times: Counter = Counter()
    for event in kernels[len(kernels) // (runs + 1) :]:
        times[groups[event["name"].removesuffix(SUFFIX)]] += event["dur"]
    return times


def node_groups(graph: onnx.GraphProto) -> dict[str, str]:
    """The group of every node by its name."""
    after = {START}  # tensors that follow from the rois
    groups = {}
    for node in graph.node:
        if after.intersection(node.input):
            after.update(node.output)
            groups[node.name] = "position-sensitive pooling"
        else:
            groups[node.name] = "convolutions" if node.op_type in CONVOLUTIONS else "the rest"
    return groups


if __name__ == "__main__":
    main()
