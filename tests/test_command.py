"""`python -m companion`: every family, every kind of data, a run that goes on, and refusals in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_parallel import as_torchrun, start

from companion import checkpoint, files, training
from companion.__main__ import main
from companion.ppca import PPCA
from companion.runs import Run

TINY = ["--steps", "3", "--width", "8", "--batch-size", "16", "--device", "cpu"]
FILES = {"settings.json", "checkpoint.safetensors", "samples.png", "metrics.json"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = np.random.default_rng(0).normal([1000, 1], [200, 0.1], (60, 2)).round(4)
    np.savetxt("table.csv", table, delimiter=",", header="가격,비율", comments="", encoding="utf-8")
    np.save("table.npy", table)
    np.savez("pixels.npz", x=np.random.default_rng(1).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    Path("colour").mkdir()
    for i in range(24):
        Image.fromarray(np.full((8, 12, 3), (10 * i, 100, 200), dtype=np.uint8)).save(f"colour/{i}.png")


def settings(run: str) -> dict:
    return json.loads((Path("runs") / run / "settings.json").read_text(encoding="utf-8"))


def result(run: str) -> dict:
    return json.loads((Path("runs") / run / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ppca", "autoencoder", "vae", "gan", "diffusion"])
@pytest.mark.parametrize("name", ["moons", "digits"])
def test_every_family_learns_points_and_images(family: str, name: str) -> None:
    options = ["--latent-dim", "1"] if name == "moons" and family != "diffusion" else []
    assert main(["train", family, name, *(TINY if family != "ppca" else []), *options]) == 0
    run = f"{family}-{name}"
    assert {path.name for path in (Path("runs") / run).iterdir()} == FILES
    found = result(run)
    if family == "autoencoder":
        assert found["squared error"] > 0
    else:
        assert abs(found["mmd"]["training rows"]) < 0.02
        assert main(["sample", f"runs/{run}", "new.npy", "--number", "5"]) == 0
        assert np.load("new.npy").shape == (5, *settings(run)["shape"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name", "shape", "network"),
    [
        ("vae", "table.csv", [2], "mlp"),
        ("gan", "pixels.npz", [1, 8, 8], "mlp"),
        ("vae", "colour", [3, 8, 12], "conv"),
        ("diffusion", "colour", [3, 8, 12], "conv"),
        ("diffusion", "hangul", [1, 16, 16], "mlp"),
    ],
)
def test_every_kind_of_data(family: str, name: str, shape: list[int], network: str) -> None:
    latent = [] if family == "diffusion" else ["--latent-dim", "2"]
    assert main(["train", family, name, *TINY, "--network", network, *latent]) == 0
    run = Run(Path("runs") / f"{family}-{Path(name).stem}")
    assert run.settings["shape"] == shape
    rows, _ = files.rows_of(name)
    torch.testing.assert_close(run.unscaled(run.scaled(rows)), rows, rtol=1e-4, atol=1e-4)


def test_ppca_learns_large_images() -> None:
    """Of more than 1,024 numbers, with sides that a convolutional network could take."""
    np.save("large.npy", np.random.default_rng(0).random((24, 36, 36)))
    assert main(["train", "ppca", "large.npy", "--latent-dim", "2"]) == 0
    assert settings("ppca-large")["network"] == "mlp"


def test_a_table_with_gaps_is_measured_in_its_own_units() -> None:
    """log p(x) against the model rebuilt by hand, in units of the file."""
    lines = Path("table.csv").read_text(encoding="utf-8").splitlines()
    lines[5] = "," + lines[5].split(",")[1]
    Path("gaps.csv").write_text("\n".join(lines), encoding="utf-8")
    assert main(["train", "ppca", "gaps.csv"]) == 0
    rows, kept = files.rows_of("gaps.csv")
    mean, std = rows.nanmean(0), (rows - rows.nanmean(0)).square().nanmean(0).sqrt()
    model = PPCA.fit((rows - mean) / std, 1)
    units = torch.diag(std)
    x = torch.distributions.MultivariateNormal(mean + units @ model.mu, units @ model.C @ units)
    if kept.isnan().any():
        pytest.fail("choose another row for the gap: this oracle takes complete rows")
    assert result("ppca-gaps")["log p(x) in nats"] == pytest.approx(x.log_prob(kept).mean().item(), abs=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_and_ends_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "vae", "digits", *TINY]) == 0
    assert main(["train", "vae", "digits", *TINY]) == 2  # it overwrites nothing
    assert "add --resume" in capsys.readouterr().err
    assert main(["train", "vae", "digits", *TINY, "--resume", "--steps", "6"]) == 0
    assert main(["train", "vae", "digits", *TINY, "--folder", "once", "--steps", "6"]) == 0
    two, one = (checkpoint.read(Path(run) / "checkpoint.safetensors")[0] for run in ("runs/vae-digits", "once"))
    assert all(torch.equal(two[name], one[name]) for name in one)
    assert main(["train", "vae", "digits", *TINY, "--resume", "--steps", "2"]) == 2
    assert settings("vae-digits")["steps"] == 6  # a refusal changes nothing
    before = result("vae-digits")
    assert main(["evaluate", "runs/vae-digits"]) == 0
    assert result("vae-digits")["mmd"] == before["mmd"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["new.png", "new.csv"])
def test_samples_go_into_a_file_once(name: str) -> None:
    main(["train", "ppca", "table.npy"])
    assert main(["sample", "runs/ppca-table", name, "--number", "7"]) == 0
    assert main(["sample", "runs/ppca-table", name]) == 2
    if name == "new.csv":
        x = np.loadtxt(name, delimiter=",")
        assert x.shape == (7, 2)
        assert abs(x[:, 0].mean() - 1000) < 300  # in the file's units


REFUSALS = {
    "no such family": (["train", "flow", "digits"], "invalid choice: 'flow'"),
    "no data": (["train", "vae"], "required: DATA"),
    "no such data": (["train", "vae", "nowhere"], "nowhere is no data set of the book"),
    "no such file": (["train", "vae", "nowhere.csv"], "No such file"),
    "gaps": (["train", "vae", "gaps.csv"], "has missing entries: only ppca takes them"),
    "a gap in a row kept back": (["train", "vae", "late.npy"], "has missing entries: only ppca takes them"),
    "words": (
        ["train", "vae", "words.csv"],
        "words.csv cannot be read: line 3: could not convert string to float: 'b'; remove",
    ),
    "semicolons": (["train", "vae", "semicolons.csv"], "line 2: could not convert string to float: '1;2'; remove"),
    "infinite": (["train", "ppca", "infinite.csv"], "line 2, column 1 (counted from 1), is infinite or above 3e38"),
    "huge": (["train", "ppca", "huge.npy"], "row 4, column 2 (counted from 1), is infinite or above 3e38"),
    "ragged": (["train", "vae", "ragged.csv"], "ragged.csv cannot be read: line 2: 1 entry, where line 1 has 2"),
    "few rows": (["train", "vae", "few.csv"], "few.csv has 2 rows: at least 20 are needed"),
    "constant column": (
        ["train", "vae", "constant.csv"],
        "column 2 (counted from 1), column 3 (counted from 1) are constant or empty in the rows to learn from: remove",
    ),
    "constant column with a name": (
        ["train", "vae", "named.csv"],
        "named.csv: column b is constant or empty in the rows to learn from: remove it",
    ),
    "empty line": (["train", "ppca", "hollow.csv"], "hollow.csv cannot be read: line 12 is empty: remove it"),
    "empty row": (["train", "ppca", "hollow.npy"], "hollow.npy cannot be read: row 11 is empty: remove it"),
    "stray quote": (["train", "ppca", "quote.csv"], "quote.csv cannot be read: line 5: could not convert"),
    "one column": (["train", "ppca", "one.npy"], "one.npy has 1 column: ppca needs at least 2"),
    "sizes": (["train", "vae", "sizes"], "have 8 × 12 and 9 × 12 pixels"),
    "broken image": (["train", "vae", "broken"], "x.png cannot be read as an image"),
    "16 bits": (
        ["train", "vae", "deep"],
        "x.png cannot be read as an image: it has more than 8 bits a pixel: save it with 8",
    ),
    "no images": (["train", "vae", "empty"], "those inside it are not looked into"),
    "huge image": (["train", "vae", "vast"], "x.png cannot be read as an image: Image size (400000000 pixels) exceeds"),
    "large image": (
        ["train", "vae", "wide"],
        "x.png cannot be read as an image: Image size (100000000 pixels) exceeds",
    ),
    "no header": (["train", "vae", "header.npy"], "header.npy cannot be read: "),
    "an array for no memory": (["train", "vae", "memory.npy"], "memory.npy cannot be read: it does not fit into the"),
    "no array": (["train", "vae", "text.npz"], "text.npz cannot be read: it holds x: name the array of data x"),
    "images with gaps": (["train", "vae", "holes.npy"], "images with missing entries (NaN)"),
    "objects": (["train", "vae", "objects.npy"], "objects instead of numbers: save x.astype(float)"),
    "range": (["train", "vae", "range.npy"], "images from 0 to 255: make them uint8"),
    "shape": (["train", "vae", "shape.npy"], "an array of float64 and shape (30,)"),
    "broken array": (["train", "vae", "broken.npz"], "broken.npz cannot be read"),
    "several arrays": (["train", "vae", "two.npz"], "it holds a, b: name the array of data x"),
    "latent": (
        ["train", "ppca", "table.csv", "--latent-dim", "2"],
        "2 columns: ppca needs at least 2, and a --latent-dim",
    ),
    "ppca by a network": (["train", "ppca", "colour", "--network", "mlp"], "ppca has no --network: leave it out"),
    "table by conv": (["train", "vae", "table.csv", "--network", "conv"], "a table, and --network conv is for images"),
    "latent of diffusion": (
        ["train", "diffusion", "table.csv", "--latent-dim", "1"],
        "diffusion has no --latent-dim: leave it out",
    ),
    "steps": (["train", "vae", "table.csv", "--steps", "-1"], "--steps: must be a whole number from 1 up, got -1"),
    "no width": (["train", "vae", "table.csv", "--width", "0"], "--width: must be a whole number from 1 up, got 0"),
    "latent below 1": (
        ["train", "vae", "table.csv", "--latent-dim", "-1"],
        "--latent-dim: must be a whole number",
    ),
    "no number": (["sample", "made", "x.png", "--number", "0"], "--number: must be a whole number from 1 up, got 0"),
    "seed": (["train", "vae", "table.csv", "--seed", "9" * 20], "--seed: must be a whole number from 0 up"),
    "folder is a file": (
        ["train", "vae", "table.csv", "--folder", "table.npy"],
        "table.npy cannot be made a folder: ",
    ),
    "folder in a file": (
        ["train", "vae", "table.csv", "--folder", "table.npy/a/b"],
        "b cannot be made a folder: ",
    ),
    "folder to write in": (
        ["sample", "drawn", "none/x.png"],
        "x.png cannot be written: No such file",
    ),
    "utf-16": (["train", "vae", "utf16.csv"], "utf16.csv cannot be read: it is UTF-16, or no text: save it as UTF-8"),
    "one endless entry": (["train", "vae", "endless.csv"], "endless.csv cannot be read: line 1: field larger"),
    "alpha": (["train", "vae", "alpha.npy"], "drop alpha, the fourth channel, by x[..., :3]"),
    "alpha first": (["train", "vae", "alpha_first.npy"], "drop alpha, the fourth channel, by x[:, :3]"),
    "untrained": (
        ["sample", "untrained", "x.png"],
        "untrained holds no trained model: train it by",
    ),
    "device": (["train", "vae", "table.csv", "--device", "abacus"], "device must be such as"),
    "device of ppca": (["train", "ppca", "table.csv", "--device", "cuda:99"], "device is 'cuda:99', but"),
    "a run among the images": (
        ["train", "ppca", "colour", "--folder", "colour/"],
        "colour is the folder of the images: name another by --folder",
    ),
    "odd sides": (["train", "vae", "odd.npy", "--network", "conv"], "multiples of 4"),
    "no run to go on": (["train", "vae", "table.csv", "--resume"], "holds no run"),
    "no run": (["sample", "runs/none", "x.png"], "runs/none holds no run"),
    "ending": (["sample", "made", "x.txt"], "x.txt must end in .png, .npy or .csv"),
    "other settings": (
        ["train", "autoencoder", "table.csv", "--folder", "made", "--resume", "--width", "16"],
        "made was made with --width 8, not 16: give the same, or name another by --folder",
    ),
    "other family": (
        ["train", "vae", "table.csv", "--folder", "made", "--resume"],
        "made with family autoencoder, not",
    ),
    "other data": (
        ["train", "autoencoder", "pixels.npz", "--folder", "made", "--resume", *TINY, "--latent-dim", "1"],
        "made was made with data table.csv, not pixels.npz: give the same",
    ),
    "fewer steps": (
        ["train", "autoencoder", "table.csv", "--folder", "made", "--resume", *TINY, "--steps", "2"],
        "made has done 3 steps: give --steps 3, or more",
    ),
    "too wide": (["train", "vae", "digits", "--width", "9" * 15], "cannot be made"),
    "damaged comparison": (["compare", "broken.npz"], "broken.npz is damaged or holds no results of compare"),
    "other trials": (["compare", "new.json", "--tuned", "list.json"], "list.json is damaged or holds no results"),
    "no trials": (["compare", "new.json", "--tuned", "nowhere.json"], "nowhere.json: No such file"),
    "steps of ppca": (["train", "ppca", "table.csv", "--steps", "3"], "ppca has no --steps: leave it out"),
    "underscores": (["train", "ppca", "months.csv"], "line 2: could not convert string to float: '2012_01'"),
    "units": (["train", "ppca", "units.csv"], "line 2: could not convert string to float: 'kg'; remove the line if it"),
    "flattened images": (
        ["train", "ppca", "flat.csv"],
        "column 3 (counted from 1) and 46 more are constant or empty in the rows to learn from: remove them; if these "
        "are images, save them in shape (n, side, side)",
    ),
    "samples among the images": (
        ["sample", "drawn", "colour/x.png"],
        "x.png would be one more of the images that drawn",
    ),
    "too many latents": (["train", "vae", "digits", "--latent-dim", "9" * 15], "lower --width or --latent-dim"),
    "meta": (["train", "vae", "digits", "--device", "meta"], "device is 'meta', which holds no numbers"),
    "no seconds": (["compare", "new.json", "--seconds", "0"], "seconds must be positive and finite, got 0"),
    "few samples": (["compare", "new.json", "--samples", "3"], "samples must be at least 4, got 3"),
    "no size": (["compare", "new.json", "--size", "17"], "size must be"),
    "no parameters": (["compare", "new.json", "--parameters", "0"], "parameters must be at least 1, got 0"),
    "device of compare": (["compare", "new.json", "--device", "abacus"], "device must be such as"),
    "no folder": (["compare", "none/new.json"], "none is no folder: make it, or name another"),
    "no families": (["compare", "new.json", "--families", "flow"], "'VAE', 'VAE, conv', 'GAN'"),
    "no draws": (["sample", "made", "x.png"], "an autoencoder has no p(z)"),
}


def picture_of(side: int) -> bytes:
    """The start of a PNG file that says how large the image is."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\1IDAT"


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, reason = REFUSALS[case]
    Path("gaps.csv").write_text("1,2\n" * 30 + ",3\n", encoding="utf-8")
    Path("words.csv").write_text("a,a\n1,2\n1,b\n", encoding="utf-8")
    Path("ragged.csv").write_text("1,2\n1\n", encoding="utf-8")
    Path("few.csv").write_text("3,4\n1,2\n", encoding="utf-8")
    Path("constant.csv").write_text("".join(f"{i / 2},7,0.3\n" for i in range(30)), encoding="utf-8")
    for folder in ("sizes", "broken", "empty", "deep", "vast", "wide"):
        Path(folder).mkdir()
    Image.new("L", (8, 12)).save("sizes/a.png")
    Image.new("L", (9, 12)).save("sizes/b.png")
    Path("broken/x.png").write_text("no image", encoding="utf-8")
    for folder, side in (("vast", 20_000), ("wide", 10_000)):
        Path(folder, "x.png").write_bytes(picture_of(side))
    headers = {
        "header.npy": "{'shape': (",
        "memory.npy": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**50}, 2)}}",
    }
    for file, header in headers.items():
        Path(file).write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("x", "no array")
    np.save("range.npy", np.linspace(0, 255, 30 * 16).reshape(30, 4, 4))
    np.save("shape.npy", np.zeros(30))
    Path("semicolons.csv").write_text("a;b\n1;2\n", encoding="utf-8")
    Path("infinite.csv").write_text("2,3\ninf,3\n", encoding="utf-8")
    table = np.random.default_rng(0).random((30, 2))
    rows = [f"{a},{b}\n" for a, b in table]
    Path("named.csv").write_text("a,b\n" + "".join(f"{a},7\n" for a in table[:, 0]), encoding="utf-8")
    Path("hollow.csv").write_text("a,b\n" + "".join([*rows[:10], ",\n", *rows[10:]]), encoding="utf-8")
    np.save("hollow.npy", np.where(np.arange(30)[:, None] == 10, np.nan, table))
    Path("quote.csv").write_text('"a\na",b\n' + "".join([*rows[:2], '"' + rows[2], *rows]), encoding="utf-8")
    np.save("one.npy", table[:, :1])
    np.save("huge.npy", np.where(np.arange(60).reshape(30, 2) == 7, 1e39, table))
    first_kept = torch.randperm(30, generator=torch.Generator().manual_seed(0))[0].item()
    table[first_kept, 0] = np.nan
    np.save("late.npy", table)
    np.save("holes.npy", np.full((30, 4, 4), np.nan))
    np.save("objects.npy", np.array([[1, "a"]] * 30, dtype=object))
    Image.fromarray(np.full((8, 8), 3000, dtype=np.uint16)).save("deep/x.png")
    Path("months.csv").write_text("".join(f"{i}_01,{i}\n" for i in range(2011, 2040)), encoding="utf-8")
    Path("units.csv").write_text("a,b\nkg,m\n" + "".join(rows), encoding="utf-8")
    np.savetxt("flat.csv", np.pad(np.random.default_rng(0).random((30, 15)), ((0, 0), (49, 0))), delimiter=",")
    Path("utf16.csv").write_text("a,b\n" + "1,2\n" * 30, encoding="utf-16")
    Path("endless.csv").write_text("1" * 200_000, encoding="utf-8")
    np.save("alpha.npy", np.zeros((30, 8, 8, 4), dtype=np.uint8))
    np.save("alpha_first.npy", np.zeros((30, 4, 8, 8), dtype=np.uint8))
    np.save("odd.npy", np.random.default_rng(0).random((30, 6, 6)))
    Path("broken.npz").write_bytes(b"PK\3\4 no archive")
    np.savez("two.npz", a=np.zeros(3), b=np.zeros(3))
    Path("list.json").write_text('{"about": {}, "runs": [[1]]}', encoding="utf-8")
    if "made" in arguments:
        assert main(["train", "autoencoder", "table.csv", "--folder", "made", *TINY]) == 0
    if "drawn" in arguments or "untrained" in arguments:
        name = "colour" if "colour/x.png" in arguments else "table.csv"
        assert main(["train", "ppca", name, "--latent-dim", "1", "--folder", arguments[1]]) == 0
    if "untrained" in arguments:
        Path("untrained/checkpoint.safetensors").unlink()
    capsys.readouterr()
    there = set(Path().rglob("*"))
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    (line,) = [line for line in said.err.splitlines() if line]
    assert line.startswith("error: ")
    assert reason in line
    assert len(line) < 250
    assert not said.out
    assert set(Path().rglob("*")) == there  # nothing half-written


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 20 GiB")

    monkeypatch.setattr("companion.runs.fit", full)
    assert main(["train", "vae", "table.csv"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == ["error: the device has too little memory: lower --width or --batch-size"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "it holds no settings by name"),
        (
            "{}",
            "network, latent_dim, width, steps, batch_size, lr, seed, device missing",
        ),
        ('{"width": "8"}', "width missing or of a wrong kind"),
        ('{"width": true}', "width must be an int, not bool"),
        ('{"width": 0}', "width must be at least 1, got 0"),
        ('{"seed": 1180591620717411303424}', "seed must be below"),
        ('{"scale": [0, 1]}', "scale must hold finite positive numbers"),
        ('{"shift": [NaN, 1]}', "shift must hold finite numbers"),
        ('{"network": "foo"}', "network is foo, none of mlp, conv"),
        ('{"columns": 3}', "columns missing or of a wrong kind"),
        ('{"family": "flow"}', "family is flow, none of ppca"),
        ('{"shift": [0, 0, 0]}', "broadcast"),
        ('{"shape": ["two"]}', "item 0 is"),
    ],
)
def test_damaged_settings_are_named(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "ppca", "table.npy"])
    capsys.readouterr()
    about = Path("runs/ppca-table/settings.json")
    changed = {**settings("ppca-table"), **json.loads(text)} if ":" in text else None
    about.write_text(json.dumps(changed) if changed else text, encoding="utf-8")
    for arguments in (["sample", "runs/ppca-table", "x.png"], ["train", "ppca", "table.npy", "--resume"]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {about} is damaged (")
        assert reason in said
        assert said.endswith("): put back a copy, or train anew in another folder\n")
        assert said.count("\n") == 1


LIMITED = """
import resource, sys
from companion.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def limited(room: int, *arguments: str) -> str:
    """What the command says where no file may have more bytes than that; it has to fail."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resource there")
@pytest.mark.slow
@pytest.mark.parametrize(("room", "name"), [(10, "settings.json"), (2000, "checkpoint.safetensors")])
def test_a_full_disk_leaves_nothing_half_written(room: int, name: str) -> None:
    said = limited(room, "train", "vae", "table.csv", *TINY, "--folder", "new/run")
    assert said.startswith(f"error: {Path('new/run') / name} cannot be written: ")
    assert said.endswith("; name a folder that you may write to, on a disk with room")
    assert not Path("new").exists()


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_disk_without_room_for_a_second_checkpoint_leaves_nothing(
    room: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With room for as many files as that, where the third is the one that replaces the checkpoint of the start."""
    written = []

    def fsync(handle: int) -> None:
        written.append(handle)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    assert main(["train", "vae", "table.csv", *TINY]) == 2
    assert "cannot be written: No space left on device; name a folder" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_full_disk_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    train = ["train", "ppca", "table.csv", "--folder", "run"]
    main(train)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    samples = {name: ["sample", "run", name] for name in ("new.png", "new.npy", "new.csv")}
    others = {"run/samples.png": ["evaluate", "run"], "run/settings.json": [*train, "--resume"]}
    for name, arguments in (samples | others).items():
        capsys.readouterr()
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {Path(name)} cannot be written: No space left on device; ")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    for folder, problem in (("closed", "settings.json cannot be written"), ("closed/run", "cannot be made a folder")):
        assert main(["train", "ppca", "table.csv", "--folder", folder]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {folder}")
        assert f"{problem}: Permission denied" in said
    assert not list(Path("closed").iterdir())


@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_are_noted(first: int) -> None:
    table = np.loadtxt("table.csv", delimiter=",", skiprows=1)
    numbered = np.column_stack([table, np.arange(len(table)) + first])
    np.savetxt("numbered.csv", numbered, delimiter=",")
    with pytest.warns(UserWarning, match="column 3 \\(counted from 1\\) looks like row numbers") as noted:
        files.read("numbered.csv")
    assert len(noted) == 1


@pytest.mark.parametrize("column", [np.arange(60) * 2, np.arange(60) + 2, np.arange(60) + np.arange(60) % 2])
@pytest.mark.filterwarnings("error")
def test_other_columns_are_no_row_numbers(column: np.ndarray) -> None:
    np.save("counts.npy", np.column_stack([column, np.ones(60)]))
    assert files.read("counts.npy").shape == (60, 2)


def test_known_entries_stay_as_they_were() -> None:
    text = '"a, m",b\n123456789.25,0.10\n,-3e-7\n1234567, NA \n'
    Path("gaps.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    filled = torch.tensor([[9.0, 9], [1 / 3, 9], [9, 2.5]])
    files.save_filled(Path("filled.csv"), Path("gaps.csv"), filled)
    expected = text.replace("\n,", "\n0.33333334,").replace(" NA ", "2.5")
    assert Path("filled.csv").read_bytes() == b"\xef\xbb\xbf" + expected.encode()
    np.save("gaps.npy", [[123456789.25, 0.1], [np.nan, 2]])
    files.save_filled(Path("two.csv"), Path("gaps.npy"), filled[:2])
    assert Path("two.csv").read_text(encoding="utf-8") == "123456789.25,0.1\n0.33333334,2.0\n"
    with pytest.raises(ValueError, match="has 2 lines of 2 entries, filled"):
        files.save_filled(Path("three.csv"), Path("gaps.npy"), filled[:, :1])
    assert not Path("three.csv").exists()


@pytest.mark.parametrize("encoding", ["cp949", "utf-8-sig", "latin-1"])
def test_a_filled_table_keeps_its_encoding(encoding: str) -> None:
    names = "Größe,É" if encoding == "latin-1" else "가격,비율"
    Path("gaps.csv").write_text(f"{names}\n1,2\n,4\n", encoding=encoding)
    assert files.columns("gaps.csv") == names.split(",")
    files.save_filled(Path("filled.csv"), Path("gaps.csv"), torch.full((2, 2), 0.5))
    assert Path("filled.csv").read_bytes() == f"{names}\n1,2\n0.5,4\n".encode(encoding)


def test_large_numbers_that_differ_little_are_told_apart() -> None:
    """Times in seconds, and noise around a billion, which float32 would round to a few values."""
    g = np.random.default_rng(0)
    table = np.column_stack([1_700_000_000 + 7 * np.arange(200), 1e9 + g.normal(size=200)])
    np.save("times.npy", table)
    assert main(["train", "ppca", "times.npy"]) == 0
    run = Run(Path("runs/ppca-times"))
    x = run.scaled(run.rows[0])
    assert all(len(x[:, i].unique()) == len(x) for i in range(2))
    assert (run.unscaled(x) - run.rows[0]).abs().max() < 1e-3
    for name in ("new.npy", "new.csv"):
        assert main(["sample", "runs/ppca-times", name, "--number", "50"]) == 0
    drawn = np.load("new.npy")
    assert 0.5 < drawn[:, 1].std() < 2
    np.testing.assert_allclose(np.loadtxt("new.csv", delimiter=","), drawn, rtol=1e-14)


def test_what_was_read_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("no_names.csv").write_text("1.5,?\n" + "".join(f"{i},{i % 3}\n" for i in range(2, 30)), encoding="utf-8")
    said = {
        "no_names.csv": "no_names.csv: 28 rows, 2 columns (1.5, ?)",
        "table.npy": "table.npy: 60 rows, 2 columns",
        "colour": "colour: 24 images of 3 × 8 × 12",
    }
    for name, line in said.items():
        assert main(["train", "ppca", name, "--latent-dim", "1"]) == 0
        assert capsys.readouterr().err.splitlines()[0] == line


def test_samples_of_a_table_have_its_names() -> None:
    Path("named.csv").write_text('"a, m",비율\n' + "".join(f"{i},{i * i}\n" for i in range(3, 43)), encoding="utf-8")
    assert main(["train", "ppca", "named.csv"]) == 0
    assert main(["sample", "runs/ppca-named", "new.csv", "--number", "3"]) == 0
    assert len(files.read("new.csv")) == 3
    assert files.columns("new.csv") == ["a, m", "비율"]


def test_other_rows_than_those_of_the_training_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise rows of the training would be among those that the model is measured by."""
    train = ["train", "ppca", "table.csv"]
    assert main(train) == 0
    about, table = Path("runs/ppca-table/settings.json"), Path("table.csv").read_text(encoding="utf-8")
    appended, wider = table + "1000,1\n", table.replace("\n", ",1\n")
    changed = table.replace(table.split("\n")[5], "1000,1")
    for content, change in ((appended, ", from 60 rows to 61"), (changed, ""), (wider, "")):
        Path("table.csv").write_text(content, encoding="utf-8")
        for arguments in (["evaluate", "runs/ppca-table"], [*train, "--resume"])[: 1 if content is wider else 2]:
            capsys.readouterr()
            assert main(arguments) == 2
            assert capsys.readouterr().err == (
                f"error: table.csv has changed since the training of {Path('runs/ppca-table')}{change}: put it back, "
                "or train anew in another --folder\n"
            )
    Path("table.csv").write_text(table, encoding="utf-8")
    old = {name: x for name, x in settings("ppca-table").items() if name not in ("rows", "columns", "fingerprint")}
    about.write_text(json.dumps(old), encoding="utf-8")
    assert main(["evaluate", "runs/ppca-table"]) == 0
    assert main([*train, "--resume"]) == 0


def test_columns_of_any_size_are_standardised() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3)) * [1e30, 1e-30, 1] + [0, 0, 1e4]
    np.save("sizes.npy", x.astype(np.float32))
    assert main(["train", "ppca", "sizes.npy"]) == 0
    run = Run(Path("runs/ppca-sizes"))
    torch.testing.assert_close(run.scaled(run.rows[0]).std(0, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_rows_that_are_mostly_the_same_are_measured_without_mmd() -> None:
    x = np.zeros((100, 3))
    x[::4] = np.random.default_rng(0).normal(size=(25, 3))
    np.save("same.npy", x)
    with pytest.warns(UserWarning, match="most rows kept back are the same"):
        assert main(["train", "ppca", "same.npy", "--latent-dim", "1"]) == 0
    assert "frechet" in result("ppca-same")
    assert "mmd" not in result("ppca-same")


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_samples_and_goes_on(tmp_path: Path) -> None:
    arguments = ["train", "vae", "table.csv", *TINY, "--folder", "long", "--steps", "1000000"]
    job = subprocess.Popen(
        [sys.executable, "-m", "companion", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    file, end = tmp_path / "long" / "checkpoint.safetensors", time.monotonic() + 200
    while not (file.exists() and checkpoint.read(file)[1]["done"] > 0):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    done = checkpoint.read(file)[1]["done"]
    assert job.returncode == 130
    assert errors.splitlines()[-1] == f"stopped after {done} steps: --resume goes on"
    assert "Traceback" not in errors
    assert main(["sample", "long", "some.npy", "--number", "3"]) == 0


@pytest.mark.parametrize(("times", "done", "code"), [(1, "1 step", 0), (2, "0 steps", 2)])
def test_ctrl_c_in_the_first_step(
    times: int, done: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once: the step ends; twice: at once, and there is nothing to draw from yet."""
    arguments, step = ["train", "vae", "table.csv", *TINY, "--folder", "run"], training._Training.step

    def interrupted(self: training._Training) -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(training._Training, "step", interrupted)
        assert main(arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"stopped after {done}: --resume goes on"
    assert main(["sample", "run", "x.npy"]) == code
    assert main([*arguments, "--resume"]) == 0
    assert {path.name for path in Path("run").iterdir()} == FILES


@pytest.mark.slow
def test_ctrl_c_in_the_imports_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time; print(flush=True); time.sleep(100)", encoding="utf-8")
    job = subprocess.Popen(
        [sys.executable, "-m", "companion", "train", "vae", "digits"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    job.stdout.readline()
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == -signal.SIGINT  # 130 in a shell
    assert not errors


def test_ctrl_c_before_the_first_step_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: training._Training) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training._Training, "save", interrupted)
    assert main(["train", "vae", "table.csv", *TINY]) == 130
    assert capsys.readouterr().err.splitlines()[1:] == ["stopped"]
    assert not Path("runs").exists()


def run_all(folder: Path, *commands: list[str]) -> None:
    """What each process of a job does."""
    os.chdir(folder)
    for arguments in commands:
        assert main(arguments) == 0


@pytest.mark.slow
def test_two_processes_make_one_run(tmp_path: Path) -> None:
    """PPCA and a VAE under torchrun, against one process."""
    train = {family: ["train", family, "table.csv", "--latent-dim", "1"] for family in ("ppca", "vae")}
    commands = train | {"vae": [*train["vae"], *TINY]}
    shared = [[*arguments, "--folder", f"{family}-two"] for family, arguments in commands.items()]
    job = start(as_torchrun, 2, tmp_path, run_all, tmp_path, *shared)
    job.join(timeout=200)
    assert job.exitcode == 0, (tmp_path / "errors").read_text(encoding="utf-8")
    for family, arguments in commands.items():
        assert main([*arguments, "--folder", f"{family}-one"]) == 0
        folders = [Path(f"{family}-{size}") for size in ("one", "two")]
        one, two = (checkpoint.read(folder / "checkpoint.safetensors")[0] for folder in folders)
        for name in one:
            if name.startswith("model."):
                torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-4)
        for folder in folders:
            assert {path.name for path in folder.iterdir()} == FILES


def test_what_was_measured_goes_when_the_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would stand beside another model after Ctrl-C; after a refusal it stays."""
    train, step = ["train", "vae", "table.csv", *TINY, "--folder", "run"], training._Training.step
    assert main(train) == 0
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    more = [*train, "--resume", "--steps", "6"]

    def refuse(*arguments: object, **options: object) -> None:
        raise ValueError("no")

    def interrupted(self: training._Training) -> None:
        signal.raise_signal(signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr("companion.runs.fit", refuse)
        assert main(more) == 2
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    monkeypatch.setattr(training._Training, "step", interrupted)
    assert main(more) == 130
    assert {path.name for path in Path("run").iterdir()} == {"settings.json", "checkpoint.safetensors"}


def test_ctrl_c_while_measuring_says_how_to_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Run) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "report", interrupted)
    assert main(["train", "ppca", "table.csv", "--folder", "run"]) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == ["measuring", "trained; python -m companion evaluate run measures it"]


def test_a_home_folder_is_found_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    Path("home").mkdir()
    Path("table.csv").rename("home/table.csv")
    assert main(["train", "vae", "~/table.csv", "--folder=~/run", *TINY]) == 0
    assert main(["sample", "~/run", "~/new.npy"]) == 0
    assert not Path("~").exists()
    assert {path.name for path in Path("home/run").iterdir()} == FILES
    assert Path("home/new.npy").exists()


def test_a_run_of_a_device_that_is_missing_goes_on() -> None:
    train = ["train", "vae", "table.csv", *TINY[:-2], "--folder", "run"]
    assert main([*train, "--device", "cpu"]) == 0
    file, about = Path("run/checkpoint.safetensors"), Path("run/settings.json")
    tensors, call = checkpoint.read(file)
    call["call"] |= {"device": "elsewhere", "precision": "bfloat16"}
    checkpoint.write(file, tensors, call)
    made = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps(made | {"device": "cuda:99"}), encoding="utf-8")
    for arguments in (["sample", "run", "new.npy"], ["evaluate", "run"]):
        with pytest.warns(UserWarning, match="cuda:99, on which run was trained, is not here: "):
            assert main(arguments) == 0
    assert main([*train, "--resume", "--steps", "6"]) == 0
    assert checkpoint.read(file)[1]["done"] == 6


def test_data_that_are_gone_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppca", "table.csv", "--folder", "run"]) == 0
    Path("table.csv").unlink()
    assert main(["sample", "run", "new.npy"]) == 0
    for arguments in (["sample", "run", "new.png"], ["evaluate", "run"]):
        capsys.readouterr()
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(
            "error: table.csv, on which run was trained, is not here: put it back"
        )


def test_losses_that_explode_advise_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "vae", "table.csv", *TINY, "--folder", "run"]
    assert main([*train, "--lr", "1e30"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: loss ")
    assert said.endswith(": try a smaller --lr")
    assert not Path("run").exists()
    assert main(train) == 0
    tensors, about = checkpoint.read(Path("run/checkpoint.safetensors"))
    broken = {name: x * torch.nan if name.startswith("model.") else x for name, x in tensors.items()}
    checkpoint.write(Path("run/checkpoint.safetensors"), broken, about)
    assert main([*train, "--resume", "--steps", "6"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(": try a smaller --lr; run keeps the last good state")
    assert Path("run/checkpoint.safetensors").exists()


def test_paths_may_be_spelt_otherwise(tmp_path: Path) -> None:
    train = ["train", "ppca", "colour/", "--folder", "run", "--latent-dim", "1"]
    assert main(train) == 0
    old = json.loads(Path("run/settings.json").read_text(encoding="utf-8"))
    Path("run/settings.json").write_text(
        json.dumps({name: x for name, x in old.items() if name != "fingerprint"}), encoding="utf-8"
    )
    for spelling in ("colour", "./colour", str(tmp_path / "colour")):
        assert main(["train", "ppca", spelling, *train[3:], "--resume"]) == 0
    Path("colour").rename("elsewhere")
    assert main(["train", "ppca", "elsewhere", *train[3:], "--resume"]) == 0  # the same rows
    assert main(["evaluate", "run"]) == 0


def test_a_run_without_its_settings_is_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "ppca", "table.csv", "--folder", "run"]
    assert main(train) == 0
    Path("run/settings.json").unlink()
    for arguments in (train, [*train, "--resume"], ["evaluate", "run"]):
        capsys.readouterr()
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: run lacks its settings.json: put it back, or train anew")


def test_an_ending_may_be_in_capitals_and_spare_processes_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", "ppca", "table.csv", "--folder", "run"]) == 0
    monkeypatch.setenv("RANK", "1")  # of torchrun
    assert main(["sample", "run", "new.PNG"]) == 0
    assert not Path("new.PNG").exists()
    monkeypatch.setenv("RANK", "0")
    assert main(["sample", "run", "new.PNG"]) == 0
    assert Path("new.PNG").exists()


def test_row_numbers_are_noted_once() -> None:
    table = np.random.default_rng(0).normal(size=(40, 3))
    np.save("numbered.npy", np.column_stack([np.arange(40), table]))
    with pytest.warns(UserWarning, match="looks like row numbers") as noted:
        assert main(["train", "ppca", "numbered.npy", "--latent-dim", "1"]) == 0
    assert sum("looks like row numbers" in str(note.message) for note in noted) == 1


def test_samples_that_the_memory_cannot_hold_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppca", "table.csv", "--folder", "run"]) == 0
    for number in ("1" + "0" * 15, "9" * 18):
        capsys.readouterr()
        assert main(["sample", "run", "big.npy", "--number", number]) == 2
        assert capsys.readouterr().err == "error: the device has too little memory: lower --number\n"


def test_photos_are_turned_as_the_camera_says_and_hidden_files_left_out() -> None:
    """A photo, stored lying with the note that it was turned, beside what macOS leaves on a disk."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Path("photos").mkdir()
    Image.fromarray(pixels).save("photos/a.png", exif=exif)
    Image.fromarray(np.rot90(pixels, -1)).save("photos/b.png")
    Path("photos/._a.png").write_bytes(b"no image")
    a, b = files.read("photos")
    assert torch.equal(a, b)
    assert a.shape == (1, 12, 8)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, FloatingPointError, KeyboardInterrupt])
def test_a_training_that_fails_before_its_first_step_loses_nothing(error: type[BaseException]) -> None:
    assert main(["train", "ppca", "table.csv"]) == 0
    run = Run(Path("runs/ppca-table"))
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(error), run.made():
        raise error("as a device without room would")
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before
    run.checkpoint.unlink()
    with pytest.raises(error), run.made():
        raise error
    assert {path.name for path in run.folder.iterdir()} == FILES - {"checkpoint.safetensors"}


def test_a_path_named_like_a_data_set_is_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    Path("colour").rename("digits")
    for name in ("./digits", "digits/"):
        assert main(["train", "ppca", name, "--latent-dim", "1", "--folder", f"run {name[0]}"]) == 0
        assert "24 images of 3 × 8 × 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "names", "rows"),
    [
        ("0,1,2", ["0", "1", "2"], 30),
        ("1,2,3", ["1", "2", "3"], 30),
        (",0,1", ["", "0", "1"], 30),
        (",2.5,7", ["", "2.5", "7"], 30),
        ("0,2,1", [], 31),
        ("0.0,1.0,2.0", [], 31),
        ("0,0.5,0.25", [], 31),  # as another row is
    ],
)
def test_names_that_count_are_no_row(first: str, names: list[str], rows: int) -> None:
    lines = [first, *(f"{i},{i / 2},{i * i + 0.25}" for i in range(30))]
    Path("counted.csv").write_text("\n".join(lines), encoding="utf-8")
    assert files.columns("counted.csv") == names
    with pytest.warns(UserWarning, match="looks like row numbers") if rows == 30 else contextlib.nullcontext():
        assert len(files.read("counted.csv")) == rows


def test_a_line_that_rows_repeat_is_one_of_them() -> None:
    Path("same.csv").write_text("0,1\n3,4\n0,1\n", encoding="utf-8")
    assert len(files.read("same.csv")) == 3


def test_gaps_below_an_empty_name_are_filled() -> None:
    Path("gaps.csv").write_text(",0,1\n0,1.5,\n1,,2.5\n", encoding="utf-8")
    files.save_filled("filled.csv", "gaps.csv", torch.full((2, 3), 9.0, requires_grad=True))
    assert Path("filled.csv").read_text(encoding="utf-8") == ",0,1\n0,1.5,9.0\n1,9.0,2.5\n"
    with pytest.raises(TypeError, match=r"filled must be a torch\.Tensor, not ndarray"):
        files.save_filled("other.csv", "gaps.csv", np.zeros((2, 3)))


def test_words_and_blank_lines_of_a_table() -> None:
    Path("words.csv").write_text("a,b\nTrue,1\n   \nfalse,2\n", encoding="utf-8")
    assert files.read("words.csv").tolist() == [[1, 1], [0, 2]]


def test_masks_and_images_that_overshoot_keep_their_scale() -> None:
    x = np.random.default_rng(0).integers(0, 2, (9, 4, 5))
    for array in (x.astype(np.uint8), x.astype(np.uint8) * 255, x * 1.0000004 - 4e-7):
        np.save("mask.npy", array)
        torch.testing.assert_close(files.read("mask.npy")[:, 0], torch.tensor(x).float(), rtol=0, atol=1e-6)
        assert files.read("mask.npy").aminmax() == (0, 1)


def test_values_that_float32_cannot_tell_apart_are_noted() -> None:
    x = np.column_stack([1.7e9 + 7 * np.arange(60.0), np.arange(60.0) ** 2, np.full(60, 0.1)])
    np.savetxt("times.csv", x, delimiter=",", header="t,x,c", comments="", fmt="%.17g")
    with pytest.warns(UserWarning, match="column t differs by less than float32 can tell") as noted:
        files.read("times.csv")
    assert len(noted) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mode", "shape"), [("RGB", (3, 3, 9)), ("RGB", (3, 1, 7)), ("L", (1, 3, 4)), ("P", (1, 5, 3))]
)
def test_images_of_any_size_stay_upright(mode: str, shape: tuple[int, int, int]) -> None:
    """Grey ones in the modes of GIF and of colours too."""
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Path("small").mkdir()
    pixels = x.transpose(1, 2, 0)
    Image.fromarray(pixels if len(x) == 3 else pixels[..., 0]).convert(mode).save("small/a.png")
    torch.testing.assert_close(files.read("small"), torch.tensor(x[None]) / 255)


def test_one_photo_in_an_array_is_noted() -> None:
    np.save("photo.npy", np.random.default_rng(0).random((20, 30, 3)))
    with pytest.warns(UserWarning, match=r"read as 20 grey images: stack photos to \(n, height, width, 3\)"):
        files.read("photo.npy")


def test_files_that_are_passed_over_are_counted() -> None:
    for name in ("a.heic", "b.heic", ".hidden"):
        Path("colour", name).write_bytes(b"")
    frames = [Image.new("RGB", (12, 8), colour) for colour in ("red", "blue")]
    frames[0].save("colour/two.gif", save_all=True, append_images=frames[1:])
    frames[0].save("colour/x.ppm")
    with pytest.warns(UserWarning, match="such as") as noted:
        assert len(files.read("colour")) == 26
    said = sorted(str(note.message) for note in noted)
    assert said[0].startswith("colour: 1 with several images, such as two.gif: of each the first is read")
    assert said[1].startswith("colour: 2 passed over, such as a.heic, which is none of .png")


def test_options_left_out_are_those_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "vae", "table.csv", "--folder", "run"]
    assert main([*train, *TINY, "--seed", "5", "--lr", "0.01"]) == 0
    before = json.loads(Path("run/settings.json").read_text(encoding="utf-8"))
    assert main([*train, "--resume"]) == 0
    assert json.loads(Path("run/settings.json").read_text(encoding="utf-8")) == before
    assert main([*train, "--resume", "--steps", "6"]) == 0
    assert json.loads(Path("run/settings.json").read_text(encoding="utf-8")) == before | {"steps": 6}
    assert checkpoint.read(Path("run/checkpoint.safetensors"))[1]["done"] == 6
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert all(default in said for default in ("(5000)", "(128)", "(0.001)", "(0)"))


@pytest.mark.parametrize("row", [0, -1])
def test_extreme_entries_are_noted_and_the_measures_are_json(row: int) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    x = np.load("table.npy")
    x[order[row], 1] = 1e20
    x[:, 0] = np.arange(60) == 7  # a rare flag is none
    np.save("extreme.npy", x)
    with pytest.warns(UserWarning, match=r"column 2 \(counted from 1\) is extreme in some rows, up to 1e\+20") as noted:
        assert main(["train", "ppca", "extreme.npy"]) == 0
    assert not any("column 1" in str(note.message) for note in noted)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(Path("runs/ppca-extreme/metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("damage", ["bytes", "folder", "other model"])
def test_a_damaged_checkpoint_says_how_to_go_on(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "ppca", "table.csv", "--folder", "run"]
    assert main(train) == 0
    file = Path("run/checkpoint.safetensors")
    if damage == "bytes":
        file.write_bytes(b"no checkpoint")
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        checkpoint.write(file, {"model.W": torch.zeros(7, 1)}, {})
    remedy = "put back a copy, or " + ("train anew" if damage == "other model" else "delete it and train again")
    for arguments in (["sample", "run", "x.npy"], ["evaluate", "run"], [*train, "--resume"]):
        if damage == "other model" and arguments[0] == "train":
            continue  # ppca is learnt anew
        capsys.readouterr()
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {file} ")
        assert remedy in said
        assert len(said) < 200


def test_measures_are_printed_before_they_are_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppca", "table.csv", "--folder", "run"]) == 0

    def closed(*arguments: object) -> None:
        raise OSError("run cannot be written")

    monkeypatch.setattr(Run, "store", closed)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert '"rows": 6' in capsys.readouterr().out
