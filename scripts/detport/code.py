"""What code a stage runs: a digest that changes with it, and the packages that it computes with.

Comments, docstrings and blank lines of modules are no part of the digest. Modules that only read settings, report
errors or keep records are none either: what they hand to a stage is in the stage's settings.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
CACHE = SCRIPTS / "__pycache__" / "facts.json"
PLUMBING = {
    f"detport.{name}"
    for name in (
        *("cli", "code", "config", "errors", "lineage", "made"),
        *("processes", "progress", "schemas", "several", "slurm", "utf8", "yamlfile"),
    )
}
# Packages whose name is not that of what is imported.
PACKAGES = {
    "cv2": ("opencv-python-headless", "opencv-python"),
    "google": ("protobuf",),
    "jinja2": ("Jinja2",),
    "markupsafe": ("MarkupSafe",),
    "PIL": ("pillow",),
    "ruamel": ("ruamel.yaml",),
}
# A string, or else a comment, which no string contains.
STRING_OR_COMMENT = re.compile(
    r"""("{3}(?:\\.|[^\\])*?"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\#[^\n]*""", re.DOTALL
)


@functools.cache
def of(script: str, plugins: tuple[str, ...], pinned: bool = False) -> tuple[str, dict[str, str]]:
    """Digest of the code that scripts/SCRIPT runs with these plugins, and the versions of its packages."""
    before = len(known())
    files = closure(script, plugins)
    found = digest(files), versions(files, pinned)
    if len(known()) > before:
        remember()
    return found


def digest(files: Iterable[Path]) -> str:
    """Digest of the code in these files, as `closure` gives them."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path.relative_to(SCRIPTS)}\n{statements(path)}\n".encode())
    return total.hexdigest()[:12]


def statements(path: Path) -> str:
    """The text of a module without docstrings, comments and blank lines."""
    return facts(path)[0]


@functools.cache
def facts(path: Path) -> tuple[str, list[str]]:
    """The statements of a module and the names that it imports, from the last process that read the same text; of a C
    file all that it says."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".c":
        return text, []
    key = hashlib.sha256(text.encode()).hexdigest()
    if key not in known():
        tree = ast.parse(text, str(path))
        known()[key] = [without_comments(text, tree), sorted(imported(tree))]
    return tuple(known()[key])


@functools.cache
def known() -> dict[str, list]:
    """What is in CACHE, by digest of a module's text: to parse all modules takes half a second."""
    try:
        found = json.loads(CACHE.read_text(encoding="utf-8"))
        return found["facts"] if found["by"] == own_digest() else {}
    except (OSError, ValueError, TypeError, KeyError):  # none yet, or not a whole one: it is made again
        return {}


def own_digest() -> str:
    """Of this module, which decides what the facts are."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def remember() -> None:
    """Write CACHE, if its folder may be written."""
    partial = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
    try:
        CACHE.parent.mkdir(exist_ok=True)
        partial.write_text(json.dumps({"by": own_digest(), "facts": known()}), encoding="utf-8")
        partial.replace(CACHE)
    except OSError:  # a repository that others own, or a full disk: modules are parsed again the next time
        partial.unlink(missing_ok=True)


def without_comments(text: str, tree: ast.Module) -> str:
    lines = text.split("\n")
    for node in blocks(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False):
            first, last = node.body[0].lineno, node.body[0].end_lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    # A blank line in a string is no blank line of code: its lines are held together by a character that no code has.
    text = STRING_OR_COMMENT.sub(lambda found: (found[1] or "").replace("\n", "\0"), "\n".join(lines))
    return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())


def blocks(module: ast.Module) -> Iterator[ast.AST]:
    """The module and every statement in it, at any depth. Expressions, which are most of a tree, hold none."""
    frontier: list[ast.AST] = [module]
    while frontier:
        node = frontier.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            frontier += getattr(node, part, ())


def closure(script: str, plugins: Iterable[str] = ()) -> set[Path]:
    """scripts/SCRIPT, the plugin modules that the configuration selects, and all of the library that these import."""
    found: set[Path] = set()
    frontier = [SCRIPTS / script, *(module_file(name) for name in plugins)]
    while frontier:
        path = frontier.pop()
        if path not in found:
            found.update(own_files(path))
            frontier += [module_file(name) for name in imports(path) if is_ours(name) and name not in PLUMBING]
    return found


def own_files(path: Path) -> list[Path]:
    """A module, and what is compiled for it: the C file beside it that has its name."""
    return [each for each in (path, path.with_suffix(".c")) if each == path or each.exists()]


def imports(path: Path) -> list[str]:
    """Names of the modules that a file imports, also inside functions."""
    return facts(path)[1]


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in blocks(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: the name may be a module or something inside the package
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def is_ours(name: str) -> bool:
    return name.startswith("detport.") and module_file(name).exists()


def module_file(name: str) -> Path:
    """File of a module; a package is its __init__.py."""
    path = SCRIPTS.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def versions(files: Iterable[Path], pinned: bool = False) -> dict[str, str]:
    """Versions of the packages that these files import: what is installed, else (or if `pinned`) what the lock says."""
    tops = {name.split(".")[0] for path in files for name in imports(path)} - {"detport", *sys.stdlib_module_names}
    return dict(sorted(version(top, pinned) for top in tops))


@functools.cache
def version(module: str, pinned: bool) -> tuple[str, str]:
    """Package and version of an imported module."""
    names = PACKAGES.get(module, (module,))
    for name in () if pinned else names:
        try:
            return name, importlib.metadata.version(name).split("+")[
                0
            ]  # 2.9.1+cpu is built for other devices than 2.9.1
        except importlib.metadata.PackageNotFoundError:
            continue
    return names[0], pins().get(names[0], "unknown")


@functools.cache
def pins() -> dict[str, str]:
    """Versions in the locks."""
    locks = [path.read_text(encoding="utf-8") for path in (SCRIPTS.parent / "envs").glob("*.txt")]
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", "\n".join(locks), re.MULTILINE))
