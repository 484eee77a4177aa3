"""Measure what the bounds of a chapter rest on: run its cells with several seeds.

    python book/evidence.py CHAPTER [--seeds 5]

Every `result(…)` of the chapter becomes a line: its bounds, and the values that it takes with the seeds as they stand
(first) and with all of them shifted by 1000, 2000, …; a value that breaks its bounds is marked. To see another CPU's
arithmetic, set the variables of the English edition in the Makefile.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import notebooks
import torch

from companion import results, training

SHIFT = 1000


@contextmanager
def shifted(by: int) -> Iterator[None]:
    """Every seed that is set inside the block is another one."""
    manual_seed, fit = torch.manual_seed, training.fit

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + by)

    def moved(*args, seed: int = 0, progress: bool = False, **settings):
        return fit(*args, seed=seed + by, progress=progress, **settings)

    with (
        mock.patch.object(torch, "manual_seed", lambda seed: manual_seed(seed + by)),
        mock.patch.object(torch, "Generator", Generator),
        mock.patch.object(training, "fit", functools.wraps(fit)(moved)),
    ):
        yield


def run(chapter: str, by: int) -> dict[str, tuple[str, str]]:
    """What each `result` of the chapter shows, and its bounds or what it broke, by name and number of occurrence."""
    seen: dict[str, tuple[str, str]] = {}
    result = results.result

    def record(name: str, value, **bounds) -> None:
        key = name if name not in seen else f"{name} #{len(seen)}"
        values, broken = value if isinstance(value, list | tuple) else [value], ""
        try:
            result(name, value, **bounds)
        except AssertionError:
            broken = "!"
        stated = ", ".join(f"{bound} {limit}" for bound, limit in bounds.items())
        seen[key] = stated, " ".join(f"{float(number):.4g}" for number in values) + broken

    space: dict = {"__name__": "__main__"}
    with shifted(by), mock.patch.object(results, "result", record):
        for cell in notebooks.read(chapter).cells:
            if cell.cell_type == "code":
                exec(compile(notebooks.plain(cell.source), chapter, "exec"), space)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", choices=notebooks.chapters())
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    runs = [run(arguments.chapter, SHIFT * i) for i in range(arguments.seeds)]
    for key, (stated, _) in runs[0].items():
        print(f"{key:<40} {stated:<24}", " | ".join(seen.get(key, ("", "missing"))[1] for seen in runs), flush=True)


if __name__ == "__main__":
    main()
