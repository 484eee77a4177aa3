"""What `make bench` measures is kept for each machine, and the book's page shows it in both editions."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import benches
import benchmarks
import notebooks
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (notebooks.CHAPTERS / f"{benches.PAGE}.md").read_text(encoding="utf-8")
STORED = json.loads(benchmarks.STORED.read_text(encoding="utf-8"))
SAME = {"", "Fashion-MNIST", "MMD²"}  # headings that are no words of either language


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list:
    monkeypatch.setattr(benchmarks, "TABLES", [])
    return benchmarks.TABLES


def test_contestants_take_turns_and_their_times_become_a_table(printed: list, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, runs = iter([0, 2, 2, 3, 10, 16, 16, 18, 20, 24, 24, 28]), []
    monkeypatch.setattr(benchmarks.time, "perf_counter", lambda: next(clock))
    results = benchmarks.race({name: lambda name=name: runs.append(name) or len(runs) for name in "ab"}, rounds=3)
    assert runs == list("abababab")
    assert results == {"a": 7, "b": 8}
    head, first, second = printed[0]
    assert head == ["seconds", "min", "median", "max", "of first"]
    assert first == ["a", "2.000", "4.000", "6.000", "1.00"]
    assert second == ["b", "1.000", "2.000", "4.000", "0.50"]


def test_a_section_measured_again_replaces_itself_and_nothing_else(printed: list, tmp_path: Path) -> None:
    path, other = tmp_path / "benchmarks.json", {"another machine": {"a": {"tables": []}}}
    path.write_text(json.dumps(other), encoding="utf-8")
    for value, section in (("1", "a"), ("2", "b"), ("3", "a")):
        printed.clear()
        benchmarks.table(["seconds", "min"], [["fit", value]])
        benchmarks.store(section, 2, path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["another machine"] == other["another machine"]
    mine = stored[benchmarks.machine()]
    assert {name: about["tables"] for name, about in mine.items()} == {
        "a": [[["seconds", "min"], ["fit", "3"]]],
        "b": [[["seconds", "min"], ["fit", "2"]]],
    }
    assert mine["a"]["threads"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_section_shows_the_tables_of_every_machine() -> None:
    about = {"date": "2026-01-02", "torch": "2.6.0", "threads": 2, "tables": [[["seconds", "MMD²"], ["fit", "0.5"]]]}
    stored = {"One": {"a": about}, "Two": {"b": about}, "Three": {"a": about}}
    korean, english = (benches.tables(stored, "a", lang) for lang in ("ko", "en"))
    table = "| seconds | MMD² |\n| --- | --: |\n| fit | 0.5 |"
    said = "**{}**, threads: 2, torch 2.6.0, 2026-01-02"
    assert english == "\n\n".join([said.format("One"), table, said.format("Three"), table])
    assert korean.startswith("**One**, 스레드 2개, torch 2.6.0, 2026-01-02\n\n| 초 | MMD² |")
    assert benches.tables(stored, "c", "en") == "Not measured yet."


def test_the_page_has_a_place_and_a_command_for_every_section() -> None:
    places = benches.PLACE.findall(SOURCE)
    assert sorted(places) == sorted(benchmarks.SECTIONS)
    for section in benchmarks.SECTIONS:
        command = "`make gpu`" if section == "gpu" else f"`make bench SECTIONS={section}`"
        assert SOURCE.count(command) == 2, section


def test_every_heading_that_was_stored_has_its_korean() -> None:
    tables = [lines for machine in STORED.values() for about in machine.values() for lines in about["tables"]]
    heads = {head for lines in tables for head in lines[0]}
    assert heads - SAME <= benches.KOREAN.keys()


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_the_site_shows_what_was_stored(site: Path, lang: str) -> None:
    text = (site / lang / f"{benches.PAGE}.html").read_text(encoding="utf-8").replace("\u2060", "")  # forbids a break
    shown = [
        [html.unescape(re.sub("<[^>]+>", "", cell)).strip() for cell in re.findall(r"(?s)<t[dh].*?>(.*?)</t[dh]>", row)]
        for row in re.findall(r"(?s)<tr.*?>(.*?)</tr>", text)
    ]
    expected = []
    for section in benches.PLACE.findall(SOURCE):
        for lines in (lines for machine in STORED.values() for lines in machine.get(section, {"tables": []})["tables"]):
            head = [benches.KOREAN.get(name, name) for name in lines[0]] if lang == "ko" else lines[0]
            expected += [head, *lines[1:]]
    assert expected
    assert shown == expected
