"""Ask every external link of the built site and of the READMEs whether it still answers: `make links`.

Links into the book's own repository are left out: the release that they name need not be published yet.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import yaml
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r'href="(https?://[^"]+)"|(?:\]\(|<)(https?://[^\s)>]+)')
#: What publishers answer to programs where a reader gets the page.
REFUSED = (401, 403, 429)
LOCAL = re.compile(r"https?://(localhost|127\.)")


def links(paths: Iterable[Path], repository: str) -> dict[str, Path]:
    """External links, each with the first file that has it."""
    owner_and_name = "/".join(repository.split("/")[-2:])
    found: dict[str, Path] = {}
    for path in paths:
        for link in map("".join, LINK.findall(path.read_text(encoding="utf-8"))):
            if owner_and_name not in link and not LOCAL.match(link):
                found.setdefault(link.split("#")[0].replace("&amp;", "&"), path)
    return found


def problem(link: str) -> str | None:
    """Why the link does not answer, or None if it does."""
    try:
        with requests.get(link, timeout=30, stream=True, headers={"User-Agent": "Mozilla/5.0"}) as answer:
            return None if answer.ok or answer.status_code in REFUSED else f"status {answer.status_code}"
    except requests.RequestException as error:
        return type(error).__name__


def main() -> int:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8-sig"))["repository"]["url"]
    found = links([*ROOT.glob("README*.md"), *sorted((ROOT / "_build" / "html").rglob("*.html"))], repository)
    with ThreadPoolExecutor(8) as pool:
        problems = list(tqdm(pool.map(problem, found), total=len(found), unit="link"))
    broken = [(link, why) for link, why in zip(found, problems, strict=True) if why]
    for link, why in broken:
        print(f"{found[link].relative_to(ROOT)}: {link}: {why}", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
