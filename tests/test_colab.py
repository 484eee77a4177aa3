"""Colab: its library versions, an empty folder, the first cell of the notebooks really installing the package.

`.venv-colab` stands for Colab's image: `make colab` makes it from tests/colab.txt, without `companion`, runs this test
and then, with nbval, the English edition in that environment. The network is replaced by git's `url.<local>.insteadOf`:
what the first cell fetches is this repository as it stands, tagged as the release. A wheel of the package beside the
notebook comes before the network.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import nbformat
import notebooks
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
COLAB = ROOT / ".venv-colab"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COLAB.exists(), reason="no .venv-colab: run `make colab`"),
]


def run(*command: str | Path, **options) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, **options).stdout


def installed() -> set[str]:
    return set(run(COLAB / "bin" / "python", "-m", "pip", "freeze", "--disable-pip-version-check").splitlines())


@pytest.fixture
def offline_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git find the book's repository on this machine instead of on GitHub."""
    clone = tmp_path / "book.git"
    url, ref = notebooks.repository()
    run("git", "clone", "--quiet", "--bare", str(ROOT), str(clone))
    state = run("git", "stash", "create").strip() or "HEAD"
    run("git", "push", "--quiet", "--force", str(clone), f"{state}:refs/tags/{ref}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{clone}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", url)


def test_first_cell_installs_the_package_and_nothing_else(
    offline_github: None, book_site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All notebooks have the same first cell; the English ones find the package that this one has installed last."""
    first = set()
    for path in (ROOT / "book").glob("[ke][on]/*.ipynb"):
        first.add(next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"))
    assert len(first) == 1
    cells = [new_code_cell(first.pop()), new_code_cell("import companion")]
    monkeypatch.setenv("JUPYTER_PATH", str(COLAB / "share" / "jupyter"))
    for origin in ("file:", "git+"):
        run(COLAB / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "companion")
        before = installed()
        folder = tmp_path / origin.strip(":+")
        folder.mkdir()
        if origin == "file:":
            book_site._build_wheel(ROOT, folder)
        NotebookClient(
            new_notebook(cells=cells), timeout=300, kernel_name="colab", resources={"metadata": {"path": str(folder)}}
        ).execute()
        after = installed()
        assert before <= after, "the first cell must not change what Colab ships"
        (added,) = after - before
        assert added.startswith(f"companion @ {origin}")
