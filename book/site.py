"""Build the website: both editions, from the stored outputs, into `_build/html`.

    python book/site.py

Settings are those of `_config.yml`; where an edition differs, its entry under `editions` is merged over them. The new
site replaces the old one only when both editions were built without a warning and every page of both is there.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import yaml
from assets import lighten

ROOT = Path(__file__).resolve().parent.parent
EXTENSIONS = ROOT / "book" / "_ext"
sys.path.insert(0, str(EXTENSIONS))


class SiteError(Exception):
    """The site cannot be built; the message says why and what to do."""


def settings(root: Path = ROOT) -> dict[str, dict]:
    """Jupyter Book's settings of each edition, {language: settings}."""
    shared = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8-sig"))
    editions = shared.pop("editions")
    return {lang: _merge(copy.deepcopy(shared), own) for lang, own in editions.items()}


def pages(lang: str, root: Path = ROOT) -> list[str]:
    """Names of the edition's pages in reading order.

    Raises:
        SiteError: if the table of contents or a page that it lists is missing.
    """
    folder = root / "book" / lang
    contents = folder / "_toc.yml"
    if not contents.exists():
        raise SiteError(f"{contents.relative_to(root)} is missing: run `make notebooks`")
    names = re.findall(r"(?m)^[-\s]*(?:root|file):\s*(\S+)", contents.read_text(encoding="utf-8"))
    for name in names:
        if not any((folder / f"{name}{suffix}").exists() for suffix in (".ipynb", ".md")):
            raise SiteError(f"book/{lang}/_toc.yml lists {name}, which is missing: run `make notebooks`")
    return names


def build_edition(lang: str, root: Path, folder: Path) -> bool:
    """Build one edition into `folder`/html; returns whether all went well, after saying on stderr what did not."""
    from jupyter_book.sphinx import build_sphinx

    folder.mkdir()
    config = folder / "_config.yml"
    config.write_text(yaml.safe_dump(settings(root)[lang], allow_unicode=True), encoding="utf-8", newline="\n")
    failed = build_sphinx(
        root / "book" / lang,
        folder / "html",
        noconfig=True,
        path_config=config,
        doctreedir=folder / "doctrees",
        confoverrides={"external_toc_path": str(root / "book" / lang / "_toc.yml"), "latex_individualpages": False},
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    missing = [name for name in pages(lang, root) if not (folder / "html" / f"{name}.html").exists()]
    if missing and not failed:
        print(f"no page came out of {', '.join(missing)}", file=sys.stderr)
    return not failed and not missing


def build(root: Path = ROOT, target: Path | None = None) -> Path:
    """Build both editions and the root page; returns the folder to serve.

    Raises:
        SiteError: if a page is missing or an edition does not build without a warning.
    """
    from typeset import FormulaError, typeset

    target = target or root / "_build" / "html"
    editions = settings(root)
    languages = list(editions)
    base = editions[languages[0]]["sphinx"]["config"]["site_url"]
    if base and not re.fullmatch(r"https?://.+/", base):
        raise SiteError(f"site_url in _config.yml is {base}: it must begin with https:// and end with /")
    for lang in languages:
        pages(lang, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="site-") as folder:
        site = Path(folder) / "html"
        site.mkdir()
        jobs = {lang: _start(lang, root, Path(folder) / lang) for lang in languages}
        said = {lang: re.sub(r"\x1b\[[\d;]*m", "", job.communicate()[0]).strip() for lang, job in jobs.items()}
        for lang, job in jobs.items():
            if job.returncode:
                raise SiteError(f"the edition book/{lang} does not build:\n{said[lang]}")
            (Path(folder) / lang / "html").rename(site / lang)
            print(f"  {lang}: {len(pages(lang, root))} pages", flush=True)
        with ThreadPoolExecutor() as pool:  # a process of its own builds the wheel meanwhile
            wheel = pool.submit(_build_wheel, root, site)
            try:
                typeset(site, root / "_build" / "formulas.json")
            except FormulaError as error:
                raise SiteError(f"these formulas cannot be typeset:\n{error}") from None
            lighten(site)
            wheel.result()
        _write_root(site, root)
        shutil.rmtree(target, ignore_errors=True)
        site.rename(target)
    return target


def _build_wheel(root: Path, site: Path) -> None:
    """The package, for those who run a page where the repository cannot be reached."""
    with tempfile.TemporaryDirectory() as folder:  # a build leaves files beside what it builds
        shutil.copytree(root / "companion", Path(folder) / "companion")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, folder)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*command, "--wheel-dir", site, folder], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SiteError(f"the package's wheel does not build:\n{done.stderr}")


def _start(lang: str, root: Path, folder: Path) -> subprocess.Popen[str]:
    """A process of its own for each edition: they run side by side, and Sphinx keeps its state to itself."""
    return subprocess.Popen(
        [sys.executable, __file__, lang, root, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},  # Sphinx and its extensions read and say Korean on Windows too
    )


def _write_root(site: Path, root: Path) -> None:
    """What both editions share: the page that picks the language, that of lost readers, what robots read."""
    import head

    editions = settings(root)
    base = editions["en"]["sphinx"]["config"]["site_url"]
    title = " · ".join(config["title"] for config in editions.values())
    links = (
        f'<link rel="alternate" hreflang="{lang}" href="{url}">' for lang, url in head.alternates(base, "index").items()
    )
    texts = {"{title}": title, "{base}": base or "/", "{alternates}": "\n".join(links)}
    for page in (EXTENSIONS / "root").iterdir():
        text = page.read_text(encoding="utf-8")
        for name, value in texts.items():
            text = text.replace(name, value)
        (site / page.name).write_text(text, encoding="utf-8", newline="\n")
    head.write_root_files(site, base, {lang: root / "book" / lang for lang in editions}, pages("en", root))
    (site / ".nojekyll").touch()


def _merge(settings: dict, own: dict) -> dict:
    for key, value in own.items():
        settings[key] = _merge(settings.get(key, {}), value) if isinstance(value, dict) else value
    return settings


def state(root: Path) -> str:
    """A digest of all that the site is made from: its files and the versions of what makes it."""
    digest = hashlib.sha256(sys.version.encode())
    for package in sorted(f"{found.name} {found.version}" for found in metadata.distributions()):
        digest.update(package.encode())
    files = [path for folder in ("book", "companion", "tests") for path in (root / folder).rglob("*")]
    for path in sorted([*files, *(root / name for name in ("_config.yml", "pyproject.toml", "README.md", "LICENSE"))]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    start = time.perf_counter()
    target, kept, now = ROOT / "_build" / "html", ROOT / "_build" / "site.sha256", state(ROOT)
    if target.exists() and kept.exists() and kept.read_text(encoding="utf-8") == now:
        print("Nothing has changed since both editions were built")
    else:
        print("Building both editions", flush=True)
        kept.unlink(missing_ok=True)
        try:
            build(ROOT)
        except SiteError as error:
            print(f"make book: {error}", file=sys.stderr)
            return 1
        kept.write_text(now, encoding="utf-8", newline="\n")
    print(f"Done in {time.perf_counter() - start:.0f} s: {target.relative_to(ROOT)}/index.html")
    print("To read it: make serve, then http://localhost:8000")
    return 0


if __name__ == "__main__":
    gc.disable()  # a fifth of the time; what is kept is needed to the end
    if len(sys.argv) == 4:  # one edition, started by `build`
        sys.exit(not build_edition(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    sys.exit(main())
