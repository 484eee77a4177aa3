"""The frame: commands that fail clearly, READMEs that say the same, one place for the release."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("target", ["book", "test"])
@pytest.mark.parametrize("python", ["missing", "old"])
def test_no_fit_python_is_one_clear_line(target: str, python: str, tmp_path: Path) -> None:
    command = tmp_path / "python"
    if python == "old":
        command.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        command.chmod(0o755)
    venv = tmp_path / ".venv"
    done = subprocess.run(
        ["make", "--no-print-directory", target, f"PYTHON={command}", f"VENV={venv}", f"COLAB={venv}-colab"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ***")]
    assert said == [
        f"Python 3.11 or newer is needed; '{command}' is not one. "
        f"Install it, or name one: make PYTHON=python3.12 {target}"
    ]
    assert not venv.exists()


def test_readmes_say_the_same() -> None:
    english, korean = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))
    for pattern in (r"^#+ ", r"^\|", r"^\d\. ", r"^```", r"`(?:make|pip) [a-z .]+`"):
        found = [re.findall(pattern, text, re.MULTILINE) for text in (english, korean)]
        assert sorted(found[0]) == sorted(found[1]), pattern
    links = [set(re.findall(r"\]\(([^)]+)\)", text)) for text in (english, korean)]
    own = {"README.ko.md", "README.md"}
    assert {link.replace("book/en/", "book/ko/") for link in links[0]} - own == links[1] - own
    for link in links[0] | links[1]:
        assert link.startswith("http") or (ROOT / link).exists(), link


def example(name: str) -> str:
    """The README's code for own data."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return code


def test_both_readmes_have_the_same_example() -> None:
    english, korean = (re.sub(r"  # .*", "", example(name)) for name in ("README.md", "README.ko.md"))
    assert english == korean
    assert len([line for line in english.splitlines() if line and "import" not in line]) <= 10


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_example_for_own_data_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, trainings = re.subn(r"steps=\d+", "steps=3, progress=False", example(name))
    assert trainings == 2
    space: dict = {}
    exec(code, space)
    assert space["ppca"].W.shape == (13, 2)
    assert space["vae"].sample(4).shape == (4, 13)
    bounds, *rows = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"tensor\(-?\d", bounds)) == 3
    assert len(re.findall(r"-?\d+\.\d+", " ".join(rows))) == 5 * 13


def test_one_version_everywhere() -> None:
    version = re.search(
        r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    ).group(1)
    for name in ("README.md", "README.ko.md"):
        assert f"edition = {{{version}}}" in (ROOT / name).read_text(encoding="utf-8")


def test_ci_runs_the_readme_command() -> None:
    for path in (".ci/run", ".github/workflows/test.yml"):
        assert re.search(r"^\s*(- run: )?make test$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def text_io(code: str) -> list[int]:
    """Lines of calls that read or write text in the machine's own encoding, or with its own line ends."""
    lines = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and re.fullmatch("[rwaxbt+]+", str(a.value))]
        mode = given.get("mode", "".join(modes)).strip("'\"")
        if name == "open" and "b" not in mode and (modes or not node.args or isinstance(node.func, ast.Name)):
            wanted = {"encoding", "newline"} if set(mode) & set("wax+") else {"encoding"}
        else:
            wanted = {"read_text": {"encoding"}, "write_text": {"encoding", "newline"}}.get(name, set())
        if given.get("text") == "True":  # of a subprocess
            wanted = {"encoding"}
        if not wanted <= given.keys():
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("folder", ["book", "companion"])
def test_text_is_read_and_written_as_utf8(folder: str) -> None:
    """Windows in Korea opens files as cp949 unless it is told otherwise, and writes CRLF."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert text_io(path.read_text(encoding="utf-8")) == [], path


def test_the_search_for_text_io_finds_it() -> None:
    wrong = ("p.read_text()", "p.write_text(t, encoding='utf-8')", "open(p)", "open(p, 'w')", "p.open('a')", "p.open()")
    right = ("p.read_text(encoding='utf-8')", "open(p, 'rb')", "p.open('wb')", "Image.open(p)", "gzip.open(f)")
    assert text_io("\n".join(wrong)) == [1, 2, 3, 4, 5, 6]
    assert text_io("\n".join((*right, "p.open('a', encoding='utf-8', newline='')"))) == []
    assert text_io("run(c, text=True)") == [1]
