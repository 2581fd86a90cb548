"""Which precision a backend computes in, by which its tolerances are chosen."""

FULL = ("force_fp32", "must_keep_origin_dtype", "origin")  # atc's modes that round nothing


def of(options: dict, backend: dict) -> str:
    """float32, float16 or int8; `options` are the compiler's of the model's yaml, for the backend's family."""
    if backend["family"] == "ascend":
        stated = backend.get("atc", {}) | options
        mode = stated.get("precision_mode_v2", stated.get("precision_mode"))
        return "float32" if mode in FULL else "float16"  # atc's own is force_fp16
    return backend.get("precision", "float32")
