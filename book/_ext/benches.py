"""What `make bench` stored, on the page `benchmarks`: a comment there names a section, and its tables go there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGE = "benchmarks"
PLACE = re.compile(r"(?m)^<!-- ([a-z-]+) -->$")
TEXTS = {
    "ko": {"about": "**{machine}**, 스레드 {threads}개, torch {torch}, {date}", "none": "아직 재지 않았다."},
    "en": {"about": "**{machine}**, threads: {threads}, torch {torch}, {date}", "none": "Not measured yet."},
}
KOREAN = {
    "seconds": "초",
    "images/s": "초당 이미지",
    "steps/s": "초당 걸음",
    "rows/s": "초당 행",
    "moons, points/s": "moons, 초당 점",
    "checkerboard, points/s": "checkerboard, 초당 점",
    "min": "최소",
    "median": "중앙값",
    "max": "최대",
    "(min, max)": "(최소, 최대)",
    "of first": "비율",
    "value": "값",
    "mean log p": "log p의 평균",
    "mean log p(observed)": "log p(관측값)의 평균",
    "relative difference": "상대 차이",
    "RMSE of missing": "결측값의 RMSE",
    "Gaussian, k-th deviation ∝ k^-0.8": "가우시안, k번째 표준 편차 ∝ k^-0.8",
    "PPCA.fit_stream, 10⁷ rows": "PPCA.fit_stream, 10⁷행",
    "ring": "원",
    "grid": "격자",
    "captured": "잡은 봉우리",
    "high quality": "품질",
    "reverse KL": "균등 분포와의 KL",
    "epochs": "에폭",
    "test −ELBO": "시험 행의 −ELBO",
    "training": "학습",
    "weights": "가중치",
    "steps": "걸음",
    "sampler": "뽑는 방법",
    "evaluations": "신경망 계산",
    "Fréchet": "프레셰 거리",
    "legible at 1, 2, 3": "읽히는 비율(1, 2, 3배)",
    "distinct": "서로 다른 음절",
    "held out": "감춰 둔 음절",
    "right letters": "맞은 자모",
    "all 3": "셋 다",
    "loss": "손실",
    "test, T = 100": "시험 행, T = 100",
    "test, T = 1000": "시험 행, T = 1000",
    "training rows, T = 100": "학습 행, T = 100",
    "model, on cpu": "모델, CPU에서",
    "model, on cuda:0": "모델, GPU에서",
    "batch": "미니배치",
    "s for 60,000 rows": "60,000행에 걸리는 초",
    "peak MiB": "가장 많이 쓴 MiB",
}


def tables(stored: dict, section: str, lang: str) -> str:
    """The section's tables of each machine that has measured it, in Markdown."""
    found = []
    for machine, sections in stored.items():
        if section in sections:
            found.append(TEXTS[lang]["about"].format(machine=machine, **sections[section]))
            found += (_table(lines, lang) for lines in sections[section]["tables"])
    return "\n\n".join(found) or TEXTS[lang]["none"]


def _table(lines: list[list[str]], lang: str) -> str:
    head, *rows = lines
    if lang == "ko":
        head = [KOREAN.get(name, name) for name in head]
    align = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, align, *rows))


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if page == PAGE:
        stored = json.loads((Path(app.srcdir).parent / "benchmarks.json").read_text(encoding="utf-8"))
        source[0] = PLACE.sub(lambda place: tables(stored, place[1], app.config.language), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
