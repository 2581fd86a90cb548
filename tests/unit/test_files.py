"""Outputs are whole or not there."""

import contextlib
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detport import files
from detport.processes import started


def test_a_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "x.json"
    with files.atomic(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_an_older_one(tmp_path):
    path = tmp_path / "shard"
    path.mkdir()
    (path / "stale.bin").touch()
    with files.atomic(path, directory=True) as partial:
        (partial / "fresh.bin").touch()
    assert [file.name for file in path.iterdir()] == ["fresh.bin"]


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[tuple[str, str]]:
    """What is put to disk and what is renamed, in order; temporary names without host and process."""
    found = []

    def name(path: Path) -> str:
        relative = str(path.relative_to(tmp_path))
        return re.sub(r"\.(\w+)\.[^/]*\.partial", r"\1.partial", relative)

    fsync, replace = os.fsync, os.replace

    def recorded_fsync(number: int) -> None:
        found.append(("fsync", name(Path(f"/proc/self/fd/{number}").readlink())))
        fsync(number)

    def recorded_replace(source: Path, target: Path) -> None:
        found.append(("rename", f"{name(Path(source))} to {name(Path(target))}"))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return found


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_when_the_block_ends(calls, tmp_path):
    with files.atomic(tmp_path / "x") as partial:
        partial.write_text("whole")
    assert calls == [("fsync", "x.partial"), ("rename", "x.partial to x"), ("fsync", ".")]


def test_everything_in_a_folder_is_on_disk_before_it_has_its_name(calls, tmp_path):
    (tmp_path / "x").mkdir()
    with files.atomic(tmp_path / "x", directory=True) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").touch()
        (partial / "b").touch()
    before = {("fsync", f"x.partial{name}") for name in ("/deep/a", "/deep", "/b", "")}
    assert set(calls[:4]) == before
    assert calls[4:] == [("rename", "x.partial to x"), ("fsync", ".")]


def test_what_is_scratch_is_not_waited_for(calls, tmp_path):
    with files.atomic(tmp_path / "x", directory=True, durable=False) as partial:
        (partial / "a").touch()
    assert calls == [("rename", "x.partial to x")]


def test_a_failure_puts_nothing_to_disk(calls, tmp_path):
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "x") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert calls == []


@pytest.mark.parametrize(
    ("code", "folder", "fatal"),
    [(errno.EINVAL, True, False), (errno.EINVAL, False, True), (errno.EIO, True, True)],
)
def test_only_a_file_system_that_cannot_put_folders_to_disk_is_forgiven(monkeypatch, tmp_path, code, folder, fatal):
    def fsync(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").resolve().is_dir() == folder:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    expected = pytest.raises(OSError, match=os.strerror(code)) if fatal else contextlib.nullcontext()
    with expected as error:
        files.write_json(tmp_path / "x.json", {})
    if fatal:
        assert error.value.filename == str(tmp_path / "x.json")


def test_leftovers_of_dead_processes_are_removed_and_of_live_ones_kept(tmp_path):
    host, alive = socket.gethostname(), os.getppid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = f"{process.pid}.{started(process.pid)}"
        names = {
            "dead": f".x.json.{host}.{dead}.partial",
            "dead, its number in use again": f".x.json.{host}.{alive}.1.partial",
            "alive": f".x.json.{host}.{alive}.{started(alive)}.partial",
            "elsewhere": ".x.json.otherhost.1.2.partial",
            "another file's": f".y.json.{host}.{dead}.partial",
        }
        for name in names.values():
            (tmp_path / name).touch()
        process.kill()
        while started(process.pid) is not None:  # it stays a zombie, since nobody has waited for it
            time.sleep(0.01)
        files.write_json(tmp_path / "x.json", {})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"x.json", names["alive"], names["elsewhere"], names["another file's"]}


def test_a_full_disk_is_that_of_the_output(tmp_path):
    """A copy that fails blames the file that it reads."""
    source = tmp_path / "source"
    source.write_bytes(bytes(100_000))
    with pytest.raises(OSError, match="No space left") as error, files.atomic(tmp_path / "output"):
        shutil.copyfile(source, "/dev/full")
    assert error.value.filename == str(tmp_path / "output")


def test_json_has_stable_bytes_and_no_nan(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "ä": [0.1]})
    assert (tmp_path / "a.json").read_bytes() == '{\n "b": 1,\n "ä": [\n  0.1\n ]\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


def test_sha256(tmp_path):
    path = Path(tmp_path / "x")
    path.write_bytes(b"abc")
    assert files.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(("code", "fatal"), [(errno.EOPNOTSUPP, False), (errno.EINVAL, False), (errno.ENOSPC, True)])
def test_room_is_taken_in_advance_where_the_file_system_can(tmp_path, monkeypatch, code, fatal):
    def refused(*_):
        raise OSError(code, "refused")

    with (tmp_path / "a").open("wb") as file:
        files.reserve(file, 0, 8192)
        assert (tmp_path / "a").stat().st_blocks * 512 >= 8192
        monkeypatch.setattr(os, "posix_fallocate", refused)
        with pytest.raises(OSError, match="refused") if fatal else contextlib.nullcontext():
            files.reserve(file, 0, 8192)
