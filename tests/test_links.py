"""The check of external links finds them all and tells the living from the dead."""

from __future__ import annotations

from pathlib import Path

import links
from conftest import serve

ROOT = Path(__file__).resolve().parent.parent


REPOSITORY = "https://github.com/owner/book"


def test_links_of_pages_and_readmes_are_found_once(tmp_path: Path) -> None:
    page, readme = tmp_path / "a.html", tmp_path / "README.md"
    page.write_text(
        '<a href="https://a.org/x?y=1&amp;z=2#part">a</a> <a href="b.html">b</a> <a href="https://a.org/x?y=1&amp;z=2">a</a>'
        f'<a href="{REPOSITORY}/blob/v1/t.py">t</a> <a href="https://colab.org/github/owner/book/blob/v1/a">c</a>'
    )
    readme.write_text("[one](https://one.org/a_b)이다 and <https://two.org>, [site](http://localhost:8000)")
    found = links.links([page, readme], REPOSITORY)
    assert found == {
        "https://a.org/x?y=1&z=2": page,
        "https://one.org/a_b": readme,
        "https://two.org": readme,
    }


def test_a_dead_link_is_told_from_a_living_one(tmp_path: Path) -> None:
    (tmp_path / "there.html").touch()
    server = serve(tmp_path)
    address = next(server)
    assert links.problem(f"{address}/there.html") is None
    assert links.problem(f"{address}/gone.html") == "status 404"
    server.close()
    assert links.problem(f"{address}/there.html") == "ConnectionError"
