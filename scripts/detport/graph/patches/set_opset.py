"""Another opset, by ONNX's own converter."""

import onnx
from onnx import version_converter

from detport.errors import Failure


def edit(model: onnx.ModelProto, opset: int) -> int:
    """Convert the graph; 0 where it has that opset already."""
    own = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if own == opset:
        return 0
    try:
        model.CopyFrom(version_converter.convert_version(model, opset))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Failure(f"patch set_opset: from {own} to {opset}: {reason}; export with another opset") from error
    return 1
