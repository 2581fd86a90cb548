"""Digest of the code that a stage runs, so that editing a module reruns exactly the stages that use it."""

import ast
import functools
import hashlib
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]


def digest(script: str, plugins: list[str]) -> str:
    """Digest of scripts/SCRIPT, the plugin modules that the configuration selects, and all that these import."""
    files = closure([SCRIPTS / script, *(module_file(name) for name in plugins)])
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path.relative_to(SCRIPTS)}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def closure(files: list[Path]) -> set[Path]:
    """The files and every module of this library that they import, directly or not."""
    found: set[Path] = set()
    frontier = list(files)
    while frontier:
        path = frontier.pop()
        if path not in found:
            found.add(path)
            frontier += [module_file(name) for name in imports(path)]
    return found


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Names of the library's modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: the name may be a module or something inside the package
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(name for name in names if name.startswith("detport.") and module_file(name).exists())


def module_file(name: str) -> Path:
    """File of a module; a package is its __init__.py."""
    path = SCRIPTS.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
