"""UTF-8 everywhere: no text is opened in the locale's encoding, and every program starts in any locale."""

import ast
import os
import re
import subprocess
import sys

import pytest

from detport.config import ROOT

PROGRAMS = sorted(
    path
    for folder in ("scripts", "bench", "demo/recipes", "envs", "tests/ascend/sim")
    for path in (ROOT / folder).rglob("*.py")
)


def opens_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text: a file or the output of a program."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    receiver = getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else "builtins"
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("read_text", "write_text"):
        return True
    if name in ("run", "Popen", "check_output"):
        return "text" in named or "universal_newlines" in named
    if name not in ("open", "fdopen") or receiver in ("Image",) or (receiver, name) == ("os", "open"):
        return False
    place = 0 if isinstance(call.func, ast.Attribute) and receiver not in ("gzip", "os", "io") else 1
    mode = named.get("mode", call.args[place] if len(call.args) > place else None)
    if receiver == "gzip":
        return mode is not None and "t" in ast.literal_eval(mode)
    # What is no word is no mode: an entry of a zip, which holds bytes.
    return mode is None or (isinstance(mode, ast.Constant) and "b" not in mode.value)


def in_the_locales_encoding(source: str) -> list[int]:
    """Lines of calls that open text and leave the encoding to the locale."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if opens_text(call) and "encoding" not in {keyword.arg for keyword in call.keywords}
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("partial.open('w')", True),
        ("partial.open('rb')", False),
        ("open(path)", True),
        ("os.fdopen(number, 'r+')", True),
        ("os.open(path, os.O_RDONLY)", False),
        ("gzip.open(path, 'rt')", True),
        ("gzip.open(path)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command)", False),
    ],
)
def test_what_opens_text(source, found):
    assert bool(in_the_locales_encoding(source)) is found


def test_every_call_that_opens_text_names_its_encoding():
    found = {
        str(path.relative_to(ROOT)): in_the_locales_encoding(path.read_text(encoding="utf-8")) for path in PROGRAMS
    }
    assert len(found) > 50
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_so_do_the_rules():
    for path in (ROOT / "rules").glob("*.smk"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"\b(open|read_text|write_text)\((?!.*encoding=)", line), f"{path}: {line}"


@pytest.fixture(scope="session")
def locales(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Environments whose text is not UTF-8, by the locale's name; GBK where the machine can make it."""
    folder = tmp_path_factory.mktemp("locales")
    made = subprocess.run(
        ["bash", "-c", "localedef -i zh_CN -f GBK $0", folder / "zh_CN.GBK"], capture_output=True, check=False
    )
    found = {name: {"LC_ALL": name, "PYTHONUTF8": "0"} for name in ("C", "POSIX")}
    if made.returncode == 0:
        found["zh_CN.GBK"] = {"LC_ALL": "zh_CN.GBK", "LOCPATH": str(folder)}
    return found


@pytest.mark.parametrize("name", ["C", "POSIX", "zh_CN.GBK"])
def test_file_names_and_text_are_utf8_in_any_locale(locales, tmp_path, name):
    """A Python in GBK reads the folder's name as another one, and cannot even write that back."""
    if name not in locales:
        pytest.skip("no localedef, or no sources of zh_CN")
    folder = tmp_path / "厅 倀"
    folder.mkdir()
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from detport import cli\n"
        "def main(argv):\n"
        "    folder = Path(sys.argv[1])\n"
        "    print(folder.name, [path.name for path in folder.iterdir()])\n"
        "    (folder / '图.txt').write_text('中文')\n"
        "cli.run(main)\n",
        encoding="utf-8",
    )
    (folder / "é.jpg").touch()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONUTF8", "LANG")}
    done = subprocess.run(
        [sys.executable, program, folder],
        env=environment | locales[name] | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode("utf-8") == "厅 倀 ['é.jpg']\n", done.stderr
    assert (folder / "图.txt").read_bytes() == "中文".encode()


def test_a_python_that_may_not_change_its_encoding_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", ROOT / "scripts" / "decode.py"],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="ascii",
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("decode: error: Python reads text as "), done.stderr


def test_a_script_starts_in_a_locale_without_utf8():
    """Its --help holds a character that ASCII has not."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "infer.py", "--help"],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "STEM_1.bin, …" in done.stdout
