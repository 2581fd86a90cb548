"""Which rungs there are for a backend, each run when it is asked for."""

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from detport import canvases
from detport.errors import UsageError
from detport.parity import rungs, steps
from detport.parity.rungs import Image, Ran, Rung

BROUGHT = "what this backend makes was brought from another machine, with whatever graph that had"
NOT_GIVEN = "its file was not given"
Files = dict[str, Path]  # of every canvas


def climb(
    model: dict,
    backend: dict,
    files: Mapping[str, Sequence[Path]],
    images: Sequence[Image],
    place: Path,
    threads: int,
    brought: bool = False,
) -> Iterator[Rung]:
    """Every rung behind the preprocessing. `files` are weights, exported, simplified, patched and compiled, of every
    canvas; `place` is a path beside which the runner may work."""
    named = {role: of_canvases(role, paths, model) for role, paths in files.items() if paths}

    def rung(name: str, runner: str, run: Callable[[Files], Ran], role: str | None = None) -> Rung:
        found = named.get(role or name)
        if brought or found is None:
            return Rung(name, runner, None, BROUGHT if brought else NOT_GIVEN)
        return rungs.measured(name, runner, run, found)

    common = {"model": model, "images": images, "threads": threads}
    last: Rung | None = None
    for name in steps(model, backend):
        if name == "eager":
            yield rung(name, "PyTorch on the CPU", partial(rungs.eager, **common), "weights")
        elif name == "compiled":
            run = partial(rungs.compiled, backend=backend, place=place, **common)
            yield rung(
                name,
                f"the backend's own runner, {backend['family']}",
                run,
                None if backend["runs"] == "compiled" else "weights",
            )
        elif last and not brought and same(named.get(last.name), named.get(name)):
            last = last._replace(name=name, runner=f"the file is that of {last.name}")
            yield last
        else:
            last = rung(name, "ONNX Runtime on the CPU, optimisations off", partial(rungs.graph, **common))
            yield last


def of_canvases(role: str, paths: Sequence[Path], model: dict) -> Files:
    """The file of every canvas; the weights are one for all."""
    known = list(canvases.by_name(model["input"]))
    paths = list(paths) * (len(known) if role == "weights" else 1)
    if len(paths) != len(known):
        raise UsageError(f"--{role}: {len(paths)} files; give one for each canvas, in this order: {', '.join(known)}")
    return dict(zip(known, paths, strict=True))


def same(one: Files | None, other: Files | None) -> bool:
    """Whether the files of all canvases are equal byte for byte, so that nobody need run them twice."""
    return (
        one is not None
        and other is not None
        and all(filecmp.cmp(path, other[name], shallow=False) for name, path in one.items())
    )
