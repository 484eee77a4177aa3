"""`python -m companion`: train a model of any family on any data, draw from it, measure it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch is imported ends it without a traceback

import numpy as np

from companion import checkpoint, compare, files
from companion.devices import find_device
from companion.parallel import join
from companion.runs import DEFAULTS, FAMILIES, NETWORKS, Run

HELP = f"""
DATA is a data set of the book: {", ".join(files.NAMES)};
or your own: a folder of images of one size; a CSV file of numbers, with or without a line of names; an .npy or .npz
file, a table of shape (n, d), or images of shape (n, height, width) or (n, height, width, 3). Tables are standardised
column by column; missing entries (NaN, or empty in a CSV file) are for ppca alone. One row in ten is kept back to
measure; of hangul, mnist and fashion-mnist those that are meant for it. Of images, vae and ppca draw the mean.

The folder of a run holds settings.json, the checkpoint, samples.png (of an autoencoder: images, and what it makes of
them) and metrics.json. Ctrl-C ends the training after a step; the same command with --resume goes on from there.

  python -m companion train vae digits
  python -m companion train vae digits --resume --steps 20000
  python -m companion train ppca table.csv --latent-dim 3
  python -m companion train diffusion photos/ --folder runs/photos
  python -m companion sample runs/vae-digits more.png --number 100
  python -m companion evaluate runs/vae-digits
  torchrun --nproc-per-node 2 -m companion train gan mnist
"""


def train(given: Namespace) -> int:
    find_device(given.device)
    rows, kept = files.rows_of(given.data)
    run = Run.planned(given, rows, kept)
    run.check_place(given.resume)
    group = join()
    if group.size > 1:
        group.agree(settings=run.settings)
    model = run.build()
    with run.made() if group.rank == 0 else contextlib.nullcontext():
        if group.rank == 0:
            print(run.about(), file=sys.stderr)
        stopped = run.learn(model, group)
    if group.rank > 0:
        return 0 if stopped is None else 130
    if stopped is not None:
        print(f"stopped after {stopped} step{'s' * (stopped != 1)}: --resume goes on", file=sys.stderr)
        return 130
    print("measuring", file=sys.stderr)
    try:
        return measure(run)
    except KeyboardInterrupt:
        print(f"trained; python -m companion evaluate {run.folder} measures it", file=sys.stderr)
        return 130


def sample(given: Namespace) -> int:
    run, file = Run(given.folder), given.file.expanduser()
    if file.exists():
        raise ValueError(f"{file} exists: name another file")
    if file.suffix.lower() not in (".png", ".npy", ".csv"):
        raise ValueError(f"{file} must end in .png, .npy or .csv")
    if file.resolve().parent == run.place:
        raise ValueError(f"{file} would be one more of the images that {run.folder} learnt: name another folder")
    x = run.unscaled(run.draw(run.load(), given.number, given.seed))
    if file.suffix.lower() == ".png":
        run.show(x, file)
    elif file.suffix.lower() == ".csv":
        files.save_table(file, x.flatten(1), run.settings.get("columns", []))
    else:
        with checkpoint.replacing(file) as opened:
            np.save(opened, x.numpy())
    return 0


def evaluate(given: Namespace) -> int:
    return measure(Run(given.folder))


def measure(run: Run) -> int:
    record, shown = run.report()
    print(json.dumps(record, indent=2))
    run.store(record, shown)
    print(f"in {run.folder}: settings.json, checkpoint.safetensors, samples.png, metrics.json")
    return 0


def compare_families(given: Namespace) -> int:
    tuned = given.tuned and compare.read(given.tuned)
    budget = {name: getattr(given, name) for name in compare.BUDGET}
    results = compare.compare(given.path, families=given.families, seeds=given.seeds, tuned=tuned, **budget)
    print(compare.trials(results), compare.table(results), sep="\n\n")
    return 0


def whole(least: int) -> Callable[[str], int]:
    """What argparse makes of an option: a whole number."""

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) < 2**63:
                return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} up, got {text}")

    return read


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 2 after a refusal, in one line, and 130 after Ctrl-C.

    Args:
        arguments: of the command line; by default those that Python was called with.
    """
    options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": HELP}
    parser = Parser(prog="python -m companion", description="Generative models of your own data.", **options)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a model and measure it", **options)
    command.set_defaults(do=train)
    command.add_argument("family", choices=FAMILIES, metavar="FAMILY", help=", ".join(FAMILIES))
    command.add_argument("data", metavar="DATA", help="what to learn, see below")
    command.add_argument("--folder", help="folder of the run (runs/FAMILY-DATA)")
    command.add_argument("--resume", action="store_true", help="go on with its options, --steps may be raised")
    default = {name: f"({value})" for name, value in DEFAULTS.items()}
    command.add_argument("--steps", type=whole(1), help=f"training steps {default['steps']}")
    command.add_argument("--batch-size", type=whole(1), help=f"rows in a step {default['batch_size']}")
    command.add_argument("--lr", type=float, help=f"learning rate; lower it if losses explode {default['lr']}")
    command.add_argument("--latent-dim", type=whole(1), help="entries of z (16, or fewer for few columns)")
    command.add_argument("--network", choices=NETWORKS, help="(conv for images of more than 1024 numbers)")
    command.add_argument("--width", type=whole(1), help="of the networks (mlp 256, conv 32)")
    command.add_argument("--seed", type=whole(0), help=f"of weights, batches and noise {default['seed']}")
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps (the best there is)")

    command = commands.add_parser("sample", help="draw new rows or images into a file", **options)
    command.set_defaults(do=sample)
    command.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    command.add_argument("file", type=Path, metavar="FILE", help=".png, .npy or .csv")
    command.add_argument("--number", type=whole(1), default=64, help="how many (%(default)s)")
    command.add_argument("--seed", type=whole(0), default=0, help="of the noise (%(default)s)")

    command = commands.add_parser("evaluate", help="measure a run again", **options)
    command.set_defaults(do=evaluate)
    command.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")

    command = commands.add_parser("compare", help="train all families by one budget and measure them by one yardstick")
    command.set_defaults(do=compare_families)
    command.add_argument("path", type=Path, help="JSON file for the results; if it exists, what it lacks is added")
    command.add_argument("--families", nargs="+", default=list(compare.FAMILIES), metavar="FAMILY", help="such as vae")
    command.add_argument("--seeds", type=whole(1), default=5, help="runs of each family")
    command.add_argument("--tuned", type=Path, help="results whose trials decide the settings, instead of new trials")
    for name, default in compare.BUDGET.items():
        command.add_argument(f"--{name}", type=type(default), default=default, help=f"by default {default}")

    given = parser.parse_args(arguments)
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    try:
        spare = given.do in (sample, evaluate) and int(os.environ.get("RANK", 0)) > 0  # under torchrun the first writes
        return 0 if spare else given.do(given)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate|size calculation overflowed", str(error)):
            raise
        remedy = {sample: ": lower --number", train: ": lower --width or --batch-size"}.get(given.do, "")
        reason = f"the device has too little memory{remedy}"
    except (ValueError, OSError, FloatingPointError) as error:
        named = isinstance(error, OSError) and error.filename and error.strerror
        reason = f"{error.filename}: {error.strerror}" if named else " ".join(str(error).split())
    print(f"error: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
