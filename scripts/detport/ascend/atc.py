"""atc: the command line from the yaml files, the run in a scratch folder, and what its failures mean."""

import difflib
import re
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import onnx

from detport import inputs, schemas
from detport.ascend import tools
from detport.errors import Failure, UsageError
from detport.files import atomic, scratch

FILE_OPTIONS = ("insert_op_conf", "keep_dtype", "modify_mixlist", "op_precision_mode", "fusion_switch_file")
# The order in which the guides write them; other options follow in the order of the yaml.
FIRST = ("framework", "model", "output", "input_format", "input_shape", "log", "soc_version")
# Options that are no keys because detport states them itself.
ELSEWHERE = {
    "model": "remove it; the graph is the patched one of this model",
    "output": "remove it; the .om goes where the workflow looks for it",
    "weight": "remove it; it is of Caffe",
    "soc_version": "set soc_version in the backend's yaml",
    "mode": "remove it; the mode is 0, to build",
}
AIPP, KEPT = "aipp.cfg", "keep_dtype.cfg"  # in the scratch folder
ONNX = 5  # atc's number for the framework
ERROR_CODE = re.compile(r"^\s*(E[A-Z]?[0-9]{4,5}):?\s*(.*)$", re.MULTILINE)

# Code: what it means, what to do.
CODES = {
    "E10001": ("an option has a value that this toolkit does not take", "correct it under atc or compile.ascend"),
    "E10002": ("--input_shape is not of the form name:n,c,h,w", "correct input_shape"),
    "E10003": ("an option is not of its form", "correct it under atc or compile.ascend"),
    "E10004": ("an option is empty", "give it a value, or remove its key"),
    "E10005": ("an option must be true or false", "correct it under extra"),
    "E10006": ("an option must be 0 or 1", "correct it"),
    "E10007": ("a required option is missing or has another value than is allowed", "see the first lines of the log"),
    "E10009": ("dynamic options exclude each other", "remove them from extra; shapes are static here"),
    "E10010": ("the log level is not known", "log: debug, info, warning, error or null"),
    "E10011": ("a size of the input is not positive", "correct input_shape"),
    "E10013": ("a number is out of its range", "correct the option"),
    "E10014": ("a value is not allowed", "correct the option"),
    "E10016": ("a name in an option is not in the model", "correct input.name, out_nodes or input_shape"),
    "E10021": ("a path is too long", "use a working directory with a shorter path"),
    "E10022": ("a path lacks the file's name", "report this; detport names the output itself"),
    "E10034": ("an input has AIPP and is to be float16 as well", "remove it from input_fp16_nodes"),
    "E10041": ("the ONNX file cannot be read", "make patched.onnx again"),
    "E10044": ("too little memory for tuning", "remove auto_tune_mode, or free 2 GB"),
    "E10049": ("the shape has another number of dimensions than the model's input", "correct input_shape"),
    "E10052": ("the AIPP file is not valid", "correct the file that insert_op_conf names"),
    "E10054": ("an option that is needed is missing", "see the first lines of the log"),
    "E10410": ("a file is missing", "correct its path"),
    "E13001": ("a file cannot be opened", "correct its path or its permissions"),
    "E16002": ("an operator has no parser in this CANN", "lower export.opset, or take another flavour of the graph"),
    "E16005": ("the file imports more than one operator set", "leave one opset_import; operators of Ascend have none"),
    "E19010": ("an operator has no parser in this CANN", "lower export.opset, or take another flavour of the graph"),
    "E19999": ("an error inside atc, often of shapes or types", "look for the operator that the log names"),
    "E20007": ("a fusion of the graph failed", "give NonMaxSuppression all five inputs, or turn the fusion off"),
    "E40000": ("a Python module of the toolkit is missing", "pip install decorator sympy attrs psutil cffi pyyaml"),
    "E89999": ("an error inside atc, often float16 against float32", "check the patches of the model's yaml"),
    "EC0010": ("a Python module of the toolkit is missing", "pip install decorator sympy attrs psutil cffi pyyaml"),
    "EZ3002": ("this chip has no kernel for an operator", "correct soc_version, or replace the operator"),
    "EZ3003": ("this chip has no kernel for an operator", "correct soc_version, or replace the operator"),
    "EZ9999": ("an error inside atc", "look for the operator that the log names"),
}


def merged(model: dict, backend: dict) -> dict:
    """The options of the backend and of the model, which wins; lists of extra options are joined."""
    common, own = backend.get("atc", {}), model.get("compile", {})
    options = common | own
    options["extra"] = common.get("extra", []) + own.get("extra", [])
    keys = schemas.plugin("compilers", "ascend")["properties"]
    for option in options["extra"]:
        name = option_name(option)
        remedy = ELSEWHERE.get(name, f"use the key {name}" if name in keys else None)
        if remedy:
            raise UsageError(f"backend {backend['name']}, model {model['name']}: extra: {option}: {remedy}")
    return options


def option_name(option: str) -> str:
    """The name in --name=value."""
    return option.removeprefix("--").partition("=")[0]


def input_shape(model: dict) -> str:
    """name:1,3,H,W of the model's input."""
    size = model["input"]
    _, layout = inputs.form(size)
    return f"{size['name']}:{','.join(map(str, inputs.shape(size, layout)))}"


def out_nodes(graph: onnx.ModelProto, contract: list[dict]) -> str:
    """NODE:INDEX of every declared output, in order: the form that every version of atc takes."""
    made = {name: f"{node.name}:{i}" for node in graph.graph.node for i, name in enumerate(node.output) if node.name}
    nameless = [entry["name"] for entry in contract if entry["name"] not in made]
    if nameless:
        raise UsageError(f"out_nodes: contract: no named node makes {', '.join(nameless)}; name the nodes in out_nodes")
    return ";".join(made[entry["name"]] for entry in contract)


def kept(graph: onnx.ModelProto, names: list[str]) -> str:
    """The text of a keep_dtype file: operators that are not computed in float16, a name in each line."""
    known = {node.name for node in graph.graph.node if node.name}
    if strange := next((name for name in names if name not in known), None):
        near = difflib.get_close_matches(strange, known, 3, cutoff=0.3)
        raise UsageError(f"keep_fp32: the graph has no node {strange!r}; the nearest: {', '.join(near) or 'none'}")
    return "".join(f"{name}\n" for name in names)


def command(model: dict, soc: str, options: dict) -> list[str]:
    """The command line; NAME.onnx and NAME.om are in the scratch folder that it runs in."""
    values = {
        "framework": ONNX,
        "model": f"./{model['name']}.onnx",
        "output": f"./{model['name']}",
        "input_format": "NCHW" if inputs.form(model["input"])[1] == "NCHW" else "ND",
        "input_shape": input_shape(model),
        "soc_version": soc,
    }
    values |= {name: value for name, value in options.items() if name != "extra"}
    for name in FILE_OPTIONS:
        if name in values and values[name] not in (f"./{AIPP}", f"./{KEPT}"):
            values[name] = existing(name, values[name])
    names = [name for name in FIRST if name in values] + [name for name in values if name not in FIRST]
    return ["atc", *(f"--{name}={values[name]}" for name in names), *options["extra"]]


def existing(name: str, file: str) -> Path:
    """The absolute path of a file that an option names; atc runs in another folder."""
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"{name}: {file}: no such file (looked in {Path.cwd()})")
    return path


def description(om: Path) -> Path:
    """The file beside an .om that says which chip and CANN it is of."""
    return om.with_name(f"{om.name}.json")


def run(
    arguments: list[str], graph: Path, name: str, log: Path, output: Path, files: Mapping[str, str], minutes: float
) -> str:
    """Run atc on a copy of the graph in a scratch folder, keep all it says in `log`, move the .om to `output`.

    `files` are the texts of what its options name in that folder. Returns what it said. kernel_meta, fusion_result.json
    and other litter go away with the folder.
    """
    with scratch(output) as folder:
        shutil.copyfile(graph, folder / f"{name}.onnx")
        for each, text in files.items():
            (folder / each).write_text(text, encoding="utf-8")
        shown = shlex.join(arguments)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8", buffering=1) as file:
            file.write(f"$ {shown}\n{''.join(files.values())}")
            try:
                status, said = tools.run(arguments, folder, minutes, log, file.write)
            except FileNotFoundError as error:
                raise UsageError(
                    "atc is not on the PATH; source /usr/local/Ascend/ascend-toolkit/set_env.sh of the CANN toolkit"
                ) from error
        made = folder / f"{name}.om"
        full = "No space left" in said
        if status or full or not made.is_file() or made.stat().st_size == 0:
            raise Failure(f"{diagnosis(said, status)}; the whole log is {log}")
        with atomic(output) as partial:
            made.replace(partial)
    return said


def diagnosis(said: str, status: int) -> str:
    """One line: error code, what it means, atc's own words, what to do."""
    if "No space left" in said:
        return f"atc ran out of disk (status {status}: No space left on device); free some, and compile again"
    match = ERROR_CODE.search(said)
    if match:
        code, text = match[1], match[2].strip()
        cause, remedy = CODES.get(code, ("an error that detport does not know", "look it up in CANN's documentation"))
        return f"atc: {code}: {cause} ({text}); {remedy}"
    if status in (128 + signal.SIGSEGV, -signal.SIGSEGV) or "Segmentation fault" in said:
        return (
            "atc crashed (segmentation fault) without an error code; known causes: NonMaxSuppression with three or"
            " four inputs, too little memory, a graph patched for another backend"
        )
    if tools.was_killed(status):
        return f"atc {tools.KILLED}"
    if status == 0:
        return "atc ended with status 0 and wrote no .om; is the disk full, or the scratch folder not writable?"
    if "cannot open shared object" in said or "libascend_hal" in said:
        return "atc lacks a library; source set_env.sh of the CANN toolkit, and the driver's libraries (libascend_hal)"
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return f"atc ended with status {status}: {last.strip()}"
