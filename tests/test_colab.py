"""Colab: unmodified notebooks, an empty folder, Colab's library versions, the bootstrap cell really installing.

`.venv-colab` stands for Colab's image: `make colab` makes it from tests/colab.txt, without `companion`. The network is
replaced by git's `url.<local>.insteadOf`: what the notebook fetches is this repository's last commit, tagged as the
release.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import nbformat
import notebooks
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-colab" / "bin" / "python"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-colab: run `make colab`"),
]

# The code is the same in both editions, so each chapter is run in one of them, by turns.
CHAPTERS = sorted((ROOT / "book" / "ko").glob("*.ipynb"))
NOTEBOOKS = [ROOT / "book" / notebooks.LANGUAGES[i % 2] / path.name for i, path in enumerate(CHAPTERS)]


def run(*command: str | Path, **options) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def installed() -> set[str]:
    return set(run(PYTHON, "-m", "pip", "freeze", "--disable-pip-version-check").splitlines())


@pytest.fixture(scope="module")
def offline_github(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which git finds the book's repository on this machine instead of on GitHub."""
    clone = tmp_path_factory.mktemp("github") / "book.git"
    url, ref = notebooks.repository()
    run("git", "clone", "--quiet", "--bare", str(ROOT), str(clone))
    run("git", "--git-dir", str(clone), "tag", "--force", ref, "HEAD")
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Jupyter path whose only kernel, `colab`, runs in `.venv-colab`."""
    folder = tmp_path_factory.mktemp("jupyter")
    specification = folder / "kernels" / "colab" / "kernel.json"
    specification.parent.mkdir(parents=True)
    command = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification.write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook_runs_on_colab(
    path: Path, offline_github: dict[str, str], kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "companion")
    before = installed()
    for name, value in {**offline_github, "JUPYTER_PATH": str(kernel)}.items():
        monkeypatch.setenv(name, value)
    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=300,
        kernel_name="colab",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    added = installed() - before
    assert before <= installed(), "the bootstrap cell must not change what Colab ships"
    assert len(added) == 1
    assert added.pop().startswith("companion @ git+")
