"""Ascend: the graph is checked, then atc compiles it."""

import shlex
from pathlib import Path

from detport import cli
from detport.ascend import aipp, atc, npu, preflight
from detport.errors import UsageError
from detport.files import write_json
from detport.graph import contract


def compile_model(onnx: Path, model: dict, backend: dict, output: Path) -> None:
    """Check the graph, then have atc build OUTPUT; all that atc says is kept beside it."""
    for key in ("more", "multiple"):
        if model["input"].get(key):
            raise UsageError(
                f"model {model['name']}: input.{key}: Ascend's runners are given one image of one size; export the"
                " model without it for Ascend, or leave this backend out"
            )
    options = atc.merged(model, backend)
    graph = contract.read(onnx)
    if options.get("out_nodes") == "contract":
        options["out_nodes"] = atc.out_nodes(graph, model["outputs"])
    files, kept = {}, [*backend.get("keep_fp32", []), *options.pop("keep_fp32", [])]
    if kept:
        if "keep_dtype" in options:
            raise UsageError(f"model {model['name']}: keep_fp32 makes the keep_dtype file; remove one of the two")
        files[atc.KEPT] = atc.kept(graph, kept)
        options["keep_dtype"] = f"./{atc.KEPT}"
    if model["input"].get("on_device"):
        if "insert_op_conf" in options:
            raise UsageError(f"model {model['name']}: input.on_device makes the AIPP file; remove insert_op_conf")
        files[atc.AIPP] = aipp.config(model["input"], model["preprocess"])
        options["insert_op_conf"] = f"./{atc.AIPP}"
    stated = {"input_shape": atc.input_shape(model)} | options
    soc = npu.soc_version(backend)
    found = preflight.problems(graph, model, backend, stated, soc)
    if found:
        raise UsageError(f"{onnx} is not for atc: " + "; ".join(found))
    toolkit = npu.toolkit_version()
    if toolkit and not toolkit.startswith(backend["cann"]):
        cli.log.warning(
            "the sourced toolkit is CANN %s, backend %s says cann: %s, which the checks before atc are for: correct"
            " cann, or source the other toolkit",
            *(toolkit, backend["name"], backend["cann"]),
        )
    arguments = atc.command(model, soc, options)
    log = output.with_name(f"{output.stem}.atc.log")
    cli.log.info("%s", shlex.join(arguments))
    said = atc.run(arguments, onnx, model["name"], log, output, files, backend["stall_minutes"])
    for line in said.splitlines():
        if line.startswith("[SIMULATOR]"):
            cli.log.warning("%s", line)
    write_json(atc.description(output), {"schema": 1, "soc_version": soc, "cann": toolkit or backend["cann"]})
    cli.log.info("built for %s; what atc said is in %s", soc, log)
