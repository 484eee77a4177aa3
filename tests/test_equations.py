"""Every numbered formula has a test that checks it, and every such test a formula."""

from __future__ import annotations

from pathlib import Path

import equations
import pytest

ROOT = Path(__file__).resolve().parent.parent


CHAPTER = """\
# 1. A chapter

By (1.1) and by `(1.9)`, not by $f(1.9)$, whatever a cell prints:

```python
print("(1.9) $$ x \\\\tag{1.9} $$")
```

$$ p(x) = 1 \\tag{1.1} $$

$$
\\begin{aligned}
p(x) &= a \\\\
     &= b
\\end{aligned} \\tag{1.2}
$$
"""
TESTS = """\
import pytest

@pytest.mark.equation("1.1")
def test_first():
    pass

@pytest.mark.slow
@pytest.mark.equation("1.2", "1.1")
class TestBoth:
    def test_inside(self):
        pass

@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.equation("1.2"))])
def test_parameters(k):
    pass
"""
METHOD = '["{}"]\nko = "합이다."\nen = "A sum."\n'


@pytest.fixture
def book(tmp_path: Path):
    """Writes a chapter and its tests, with digests of `known`; returns what the registry finds wrong with them."""

    def problems(
        chapter: str = CHAPTER,
        tests: str = TESTS,
        name: str = "01-a",
        known: str = CHAPTER,
        methods: str | None = None,
    ) -> list[str]:
        folders = tmp_path / "chapters", tmp_path / "tests"
        for folder, file, text in zip(folders, (f"{name}.md", "test_a.py"), (known, tests), strict=True):
            folder.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        equations.write_digests(*folders)
        (folders[0] / f"{name}.md").write_text(chapter)
        said = "".join(METHOD.format(number) for number in {item.number for item in equations.formulas(folders[0])})
        (folders[1] / "methods.toml").write_text(said if methods is None else methods)
        return equations.problems(*folders)

    return problems


def test_the_book_and_its_tests_agree() -> None:
    assert equations.problems(ROOT / "book" / "chapters", ROOT / "tests") == []


def test_every_formula_s_error_was_measured() -> None:
    numbers = {formula.number for formula in equations.formulas(ROOT / "book" / "chapters")}
    measured = equations.table(ROOT / "tests" / equations.ERRORS)
    missing = sorted(numbers ^ (measured.keys() - {"torch"}))
    assert not missing, f"run `make errors`: {', '.join(missing)}"
    for number in numbers:
        for kind in ("difference", "relative", "standard_errors"):
            error, allowed = measured[number].get(kind, (0, 0))
            assert 0 <= error <= allowed, f"({number}): {error} where {allowed} is allowed"


def test_formulas_are_found_with_their_place(book, tmp_path: Path) -> None:
    assert book() == []
    first, second = equations.formulas(tmp_path / "chapters")
    assert (first.number, first.tex, first.line, first.anchor) == ("1.1", "p(x) = 1", 9, "eq-1-1")
    assert second.tex.startswith(r"\begin{aligned}")
    assert "tag" not in second.tex
    assert second.line == 15


def test_checks_are_found_with_the_line_of_the_test(book, tmp_path: Path) -> None:
    book()
    found = [(check.number, check.name, check.line) for check in equations.checks(tmp_path / "tests")]
    assert found == [
        ("1.1", "test_first", 4),
        ("1.2", "TestBoth", 9),
        ("1.1", "TestBoth", 9),
        ("1.2", "test_parameters", 14),
    ]
    assert {check.path for check in equations.checks(tmp_path / "tests")} == {"tests/test_a.py"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((r"\tag{1.2}", r"\tag{1.2}" + "\n$$\n\n$$ x \\tag{1.3} "), "no test checks (1.3)"),
        ((r"\tag{1.2}", r"\tag{1.1}"), "(1.1) is used more than once"),
        ((r"\tag{1.1}", r"\tag{1.3}"), "(1.3) should be (1.1)"),
        ((r"\tag{1.1}", r"\tag{2.1}"), "(2.1) should be (1.1)"),
        ((r"= 1 \tag{1.1}", r"= 1 \tag{1.1} \tag{1.2}"), "one displayed formula has two tags"),
        (("By (1.1)", "By (1.7)"), "01-a.md:3: (1.7) refers to a formula that no chapter has"),
        (("# 1. A chapter", r"# 1. A chapter $x \tag{1.1}$"), "outside a displayed formula"),
    ],
)
def test_a_fault_in_a_chapter_is_named(book, change: tuple[str, str], message: str) -> None:
    assert any(message in problem for problem in book(CHAPTER.replace(*change)))


def test_a_mark_without_a_formula_is_named(book) -> None:
    assert book(tests=TESTS.replace('"1.2", "1.1"', '"1.2", "1.4"')) == [
        "tests/test_a.py:9: TestBoth checks (1.4), which no chapter has"
    ]


def test_a_formula_without_a_check_is_named(book) -> None:
    assert book(tests="") == [
        '01-a.md:9: no test checks (1.1): mark one @pytest.mark.equation("1.1")',
        '01-a.md:15: no test checks (1.2): mark one @pytest.mark.equation("1.2")',
    ]


def test_a_formula_without_a_sentence_and_a_sentence_without_a_formula_are_named(book) -> None:
    half = METHOD.format("1.1") + '["1.2"]\nko = "합이다."\n'
    assert book(methods=half + METHOD.format("9.1")) == [
        '(1.2) has no sentence on its check: give ["1.2"] en = "…" in tests/methods.toml',
        "tests/methods.toml: no chapter has (9.1)",
    ]
    assert len(book(methods="")) == 4


def test_only_chapters_number_their_formulas(book) -> None:
    assert any("only chapters number their formulas" in problem for problem in book(name="notation"))


def test_a_turned_sign_in_a_formula_is_named_until_somebody_has_looked_at_its_tests(book) -> None:
    turned = CHAPTER.replace("p(x) &= a", "p(x) &= -a")
    assert book(turned) == [
        "(1.2) changed: look at tests/test_a.py::TestBoth and tests/test_a.py::test_parameters, then run `make digests`"
    ]
    assert book(turned, known=turned) == []


@pytest.mark.parametrize("spaced", ["$$\n  p( x )=1\n\\tag{1.1} $$", r"$$ p\!(x)\, =\; 1 \quad \tag{1.1} $$"])
def test_the_spaces_of_a_formula_may_change(book, spaced: str) -> None:
    chapter = CHAPTER.replace(r"$$ p(x) = 1 \tag{1.1} $$", spaced)
    assert chapter != CHAPTER
    assert book(chapter) == []


def test_a_digest_too_few_and_one_too_many_are_named(book) -> None:
    fewer = CHAPTER[: CHAPTER.index("$$\n\\begin")]
    assert book(known=fewer)[0].startswith("(1.2) has no digest: look at tests/test_a.py::TestBoth and")
    assert book(fewer, TESTS.replace("1.2", "1.1")) == [
        "tests/equations.toml: no chapter has (1.2): run `make digests`"
    ]


def test_commands_stay_apart_where_their_spaces_go() -> None:
    digests = {equations.Formula("1.1", tex, "01-a", 1).digest for tex in (r"\pi x", r"\pix", r"\pi\,x", "\\pi\n x")}
    assert len(digests) == 2
