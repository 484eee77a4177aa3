"""The package's commands: python -m companion COMMAND."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from companion import compare


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: of the command line; by default those that Python was called with.
    """
    parser = argparse.ArgumentParser(prog="python -m companion", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("compare", help="train all families by one budget and measure them by one yardstick")
    command.add_argument("path", type=Path, help="JSON file for the results; if it exists, what it lacks is added")
    command.add_argument("--families", nargs="+", default=list(compare.FAMILIES), metavar="FAMILY", help="which")
    command.add_argument("--seeds", type=int, default=5, help="runs of each family")
    command.add_argument("--tuned", type=Path, help="results whose trials decide the settings, instead of new trials")
    for name, default in compare.BUDGET.items():
        command.add_argument(f"--{name}", type=type(default), default=default, help=f"by default {default}")

    given = parser.parse_args(arguments)
    tuned = given.tuned and json.loads(given.tuned.read_text(encoding="utf-8"))
    budget = {name: getattr(given, name) for name in compare.BUDGET}
    results = compare.compare(given.path, families=given.families, seeds=given.seeds, tuned=tuned, **budget)
    print(compare.trials(results), compare.table(results), sep="\n\n")


if __name__ == "__main__":
    main()
