"""The published models at full size with generated weights on one thread: backends, RetinaMask's contracts, and memory
beside its estimates. All of it is of the same runs, made once.
"""

from collections.abc import Callable
from pathlib import Path

import openvino

import full_size
from backends import Taken, in_turns
from detport import config, memory
from detport.backends.openvino import require_device
from side_by_side import Measured, Row, of_pairs

RETINAMASK, GUIDE = ("retinamask", ""), ("retinamask", "guide")
TITLES = {
    ("gfocalv2", ""): "GFocalV2",
    ("rfcn", ""): "R-FCN",
    ("efficientdet_d7", ""): "EfficientDet-D7",
    RETINAMASK: "RetinaMask",
    GUIDE: "RetinaMask, guide's contract",
}
ORT, F32, BF16 = "onnxruntime", "openvino", "openvino_bf16"
Model = tuple[str, str]  # name and contract


def taken(model: Model, key: str) -> Taken:
    """What a model's runs on a backend took. RetinaMask's contracts take turns too."""
    models = (RETINAMASK, GUIDE) if model in (RETINAMASK, GUIDE) else (model,)
    return in_turns(models, available())[*model, key]


def available() -> tuple[str, ...]:
    """The backends that this processor has units for."""
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return (ORT, F32, BF16) if "BF16" in able else (ORT, F32)


def faster(ours: tuple[Model, str], other: tuple[Model, str]) -> Callable[[Path], Measured]:
    """Runs of both in the order in which they were made."""

    def measure(folder: Path) -> Measured:
        for _, key in (ours, other):
            refuse_emulation(key)
        return of_pairs(list(zip(taken(*ours).milliseconds, taken(*other).milliseconds, strict=True)), "ms")

    return measure


def refuse_emulation(key: str) -> None:
    """Say why a backend cannot be measured here, as every stage does."""
    backend = config.load_backend(full_size.backend_yaml(key))
    if backend["family"] == "openvino":
        require_device(openvino.Core(), backend)


def smaller(key: str, of: str) -> Callable[[Path], Measured]:
    """RetinaMask's own contract beside its guide's: peak of the process, or bytes of an image's outputs."""

    def measure(folder: Path) -> Measured:
        refuse_emulation(key)
        pair = tuple(getattr(taken(model, key), of) for model in (RETINAMASK, GUIDE))
        return of_pairs([pair], "MB") if of == "peak_mb" else of_pairs([tuple(each / 1e6 for each in pair)], "MB")

    return measure


def estimated(stage: str, model: Model, key: str = ORT) -> Callable[[Path], Measured]:
    """The peak of a stage beside what it is taken for beforehand."""

    def measure(folder: Path) -> Measured:
        peak = taken(model, key).peak_mb if stage == "infer" else full_size.prepare(*model).peaks[stage]
        backend = config.load_backend(full_size.backend_yaml(key))
        return of_pairs([(peak, memory.job_mb(stage, full_size.settings(full_size.prepare(*model)), backend))], "MB")

    return measure


def backend_rows(model: Model) -> list[Row]:
    """A lower precision must be worth it; float32 is told."""
    name = f"infer {TITLES[model]}"
    against = "in ONNX Runtime"
    return [
        Row(f"{name} in OpenVINO, float32", against, faster((model, F32), (model, ORT)), slow=True),
        Row(f"{name} in OpenVINO, bfloat16", against, faster((model, BF16), (model, ORT)), required=1, slow=True),
    ]


def contract_rows() -> list[Row]:
    """What the compact contract is required to save; in bfloat16, where masks cost little on some processors, it is
    told."""
    of, against = "RetinaMask's compact contract", "the guide's"
    rows = []
    wheres = ((ORT, "ONNX Runtime", 1.8, 2), (F32, "OpenVINO", 1.8, 2), (BF16, "OpenVINO, bfloat16", None, None))
    for key, where, times, smaller_by in wheres:
        speed = faster((RETINAMASK, key), (GUIDE, key))
        rows.append(Row(f"infer {of} in {where}", against, speed, required=times, slow=True))
        rows.append(Row(f"memory of {of} in {where}", against, smaller(key, "peak_mb"), required=smaller_by, slow=True))
    return [*rows, Row(f"outputs of {of}", against, smaller(ORT, "bytes"), required=10, slow=True)]


def memory_rows(model: Model) -> list[Row]:
    """No job may take more than was estimated."""
    name, against = TITLES[model], "its estimate"
    return [
        Row(f"memory to export {name}", against, estimated("export", model), required=1, slow=True),
        Row(f"memory to infer {name} in ONNX Runtime", against, estimated("infer", model), required=1, slow=True),
        Row(f"memory to infer {name} in OpenVINO", against, estimated("infer", model, F32), required=1, slow=True),
    ]


ROWS = [
    *(row for model in TITLES if model != GUIDE for row in backend_rows(model)),
    *contract_rows(),
    *(row for model in TITLES for row in memory_rows(model)),
]
