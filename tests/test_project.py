"""The frame: commands that fail clearly, READMEs that say the same, one place for the release."""

from __future__ import annotations

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
        command.write_text("#!/bin/sh\nexit 1\n")
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
    english, korean = ((ROOT / name).read_text() for name in ("README.md", "README.ko.md"))
    for pattern in (r"^#+ ", r"^\|", r"^\d\. ", r"^```", r"`(?:make|pip) [a-z .]+`"):
        found = [re.findall(pattern, text, re.MULTILINE) for text in (english, korean)]
        assert sorted(found[0]) == sorted(found[1]), pattern
    links = [set(re.findall(r"\]\(([^)]+)\)", text)) for text in (english, korean)]
    own = {"README.ko.md", "README.md"}
    assert {link.replace("book/en/", "book/ko/") for link in links[0]} - own == links[1] - own
    for link in links[0] | links[1]:
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    for name in ("README.md", "README.ko.md"):
        assert f"edition = {{{version}}}" in (ROOT / name).read_text()


def test_ci_runs_the_readme_command() -> None:
    for path in (".ci/run", ".github/workflows/test.yml"):
        assert re.search(r"^\s*(- run: )?make test$", (ROOT / path).read_text(), re.MULTILINE)
