"""Which precision a rung computes in, by which its tolerances are chosen: float32, bfloat16, float16 or int8."""

FULL = ("force_fp32", "must_keep_origin_dtype", "origin")  # atc's modes that round nothing
OPENVINO = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}  # by its words


def of(options: dict, backend: dict) -> str:
    """That of a backend's compiled models; `options` are the compiler's of the model's yaml, for its family."""
    if backend["family"] == "ascend":
        stated = backend.get("atc", {}) | options
        mode = stated.get("precision_mode_v2", stated.get("precision_mode"))
        return "float32" if mode in FULL else "float16"  # atc's own is force_fp16
    if backend["family"] == "openvino":
        return OPENVINO[backend["precision"]]
    return backend.get("precision", "float32")


def by_rung(patches: list[dict], options: dict, backend: dict) -> dict[str, str]:
    """That of the rungs that are not float32 by themselves: a patch is made for the device behind it."""
    own = of(options, backend)
    return {"patched": own if patches else "float32", "compiled": own}
