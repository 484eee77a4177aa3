"""Rows to learn from, by name: the book's data sets, and the reader's own tables and images."""

from __future__ import annotations

import csv
import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from companion import checkpoint, data

#: The names that `rows_of` knows.
NAMES = (
    *("ring", "grid", "moons", "checkerboard", "spiral"),
    *("digits", "hangul", "hangul28", "mnist", "fashion-mnist"),
)
#: Endings of the files that `read` takes for images in a folder.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_MISSING = ("", "nan", "na")


def rows_of(name: str) -> tuple[Tensor, Tensor]:
    """The rows to learn from, and those kept back to measure: of hangul, mnist and fashion-mnist the ones meant for it.

    Args:
        name: one of NAMES, where "hangul28" has 28×28 pixels and of points there are 10,000; or a path for `read`.

    Returns:
        Tables, shape (n, d), or images, shape (n, channels, height, width), in [0, 1].

    Raises:
        FileNotFoundError: if there is neither such a name nor such a file, or it cannot be downloaded.
        ValueError: as `read`; or if there are fewer than 20 rows.
    """
    if name in ("mnist", "fashion-mnist"):
        load = data.mnist if name == "mnist" else data.fashion_mnist
        return tuple(load(split)[0].view(-1, 1, 28, 28) for split in ("train", "test"))
    if name in ("hangul", "hangul28"):
        size = 28 if name == "hangul28" else 16
        all_syllables = data.hangul(size)
        images = all_syllables.x.view(-1, 1, size, size)
        return images[all_syllables.train], images[all_syllables.held_out]
    generator = Generator().manual_seed(0)
    if name == "digits":
        x = data.digits()[0].view(-1, 1, 8, 8)
    elif name in NAMES:
        x = getattr(data, name)(10_000, generator=generator)
    else:
        x = read(name)
    if len(x) < 20:
        raise ValueError(f"{name} has {len(x)} rows: at least 20 are needed, of which a tenth is kept back to measure")
    rows = torch.randperm(len(x), generator=generator)
    return x[rows[len(x) // 10 :]], x[rows[: len(x) // 10]]


def read(path: Path | str) -> Tensor:
    """A table, shape (n, d), or images, shape (n, 1 or 3, height, width) in [0, 1], from the reader's own files.

    Args:
        path: a folder of images of one size, read in the order of their names, grey if all are, on white where they
            are transparent; a CSV file of numbers, with or without a line of names, where an empty entry or NaN is
            missing and becomes NaN; an .npy file, or the only array, or the one named x, of an .npz file, of shape
            (n, d), (n, height, width), (n, height, width, 3) or (n, 3, height, width), images of type uint8, or
            between 0 and 1.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is another kind of file, damaged, or the images differ in size.

    Warns:
        UserWarning: if a column of a table only numbers the rows.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_images(path)
    if path.suffix.lower() == ".csv":
        return _read_table(path)
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"{path} is no data set of the book ({', '.join(NAMES)}), folder, .csv, .npy or .npz file")
    try:
        return _tidy(_array(path))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        pickled = "allow_pickle" in str(error)
        reason = "it is damaged, or holds objects instead of numbers: save x.astype(float)" if pickled else error
        raise ValueError(f"{path} cannot be read: {reason}") from error


def save_filled(path: Path, table: Path, filled: Tensor) -> None:
    """Write a table as a CSV file in which gaps hold the entries of `filled`, and all else is as the table has it.

    Args:
        path: the file to write.
        table: the table that `read` gives, a .csv, .npy or .npz file; a line of names is kept.
        filled: shape (n, d), of which the entries count that are missing in the table.

    Raises:
        ValueError: if the shapes differ.
        OSError: if it cannot be written.
    """
    lines = [cells for _, cells in _lines(table)] if table.suffix.lower() == ".csv" else _array(table).tolist()
    names, rows = lines[: len(lines) - len(filled)], lines[len(lines) - len(filled) :]
    if len(names) > 1 or len(rows) != len(filled) or len(rows[0]) != filled.shape[1]:
        raise ValueError(f"{table} has {len(lines)} lines of {len(lines[0])} entries, filled {tuple(filled.shape)}")
    whole = [
        [str(value) if str(cell).strip().lower() in _MISSING else cell for cell, value in zip(*pair, strict=True)]
        for pair in zip(rows, filled.numpy(), strict=True)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(names + whole)
    with checkpoint.replacing(path) as file:
        file.write(text.getvalue().encode())


def _array(path: Path) -> np.ndarray:
    """The array of data in an .npy or .npz file."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        name = "x" if "x" in loaded else ", ".join(loaded)
        if name not in loaded:
            raise ValueError(f"it holds {name or 'nothing'}: name the array of data x")
        return loaded[name]


def _tidy(x: np.ndarray) -> Tensor:
    """The array as a table or as images."""
    given = x.shape
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.dtype.kind not in "buif" or x.ndim not in (2, 4) or (x.ndim == 4 and x.shape[1] not in (1, 3)) or not x.size:
        remedy = ""
        if len(given) == 4 and 4 in (given[1], given[3]):
            remedy = f"; drop alpha, the fourth channel, by {'x[..., :3]' if given[3] == 4 else 'x[:, :3]'}"
        raise ValueError(
            f"an array of {x.dtype} and shape {given}: numbers of shape (n, d), or images (n, height, width) or "
            f"(n, height, width, 3), are needed{remedy}"
        )
    with np.errstate(over="ignore"):
        values = torch.from_numpy(x.astype(np.float32))
    if x.ndim == 2:
        return _checked(values)
    if values.isnan().any():
        raise ValueError("images with missing entries (NaN): fill them in, or leave out those images")
    values = values / 255 if x.dtype == np.uint8 else values
    if not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(
            f"images from {values.min():g} to {values.max():g}: make them uint8, or scale them to between 0 and 1"
        )
    return values


def _checked(table: Tensor) -> Tensor:
    """The table itself, unless an entry is infinite, or too large for float32; with a note of columns 0, 1, 2, …"""
    if table.isinf().any():
        row, column = table.isinf().nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, column {column}, counted from 0, is infinite or above 3e38: correct it, or mark it as missing"
        )
    counted = torch.arange(len(table))[:, None]
    for column in ((table == counted).all(0) | (table == counted + 1).all(0)).nonzero().flatten().tolist():
        if len(table) > 2:
            warnings.warn(
                f"column {column}, counted from 0, looks like row numbers, and is learnt like any other: remove it "
                "unless it means something",
                stacklevel=3,
            )
    return table


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that hold something: their numbers, from 1, and entries."""
    content = path.read_bytes()
    if b"\0" in content:
        raise ValueError(
            f"{path} is UTF-16, or no text: save it as UTF-8 (in Excel as the type CSV UTF-8, in an editor by the "
            "choice of encoding)"
        )
    text = io.StringIO(content.decode("utf-8-sig", errors="replace"), newline="")
    try:
        return [(number, cells) for number, cells in enumerate(csv.reader(text), start=1) if cells]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_table(path: Path) -> Tensor:
    lines, rows = _lines(path), []
    for number, cells in lines:
        try:
            rows.append([math.nan if cell.strip().lower() in _MISSING else float(cell) for cell in cells])
        except ValueError as error:
            if rows or (number, cells) != lines[0]:
                raise ValueError(
                    f"{path}, line {number}: {error}; remove columns of text, leave missing entries empty, put commas "
                    "between entries and points in numbers"
                ) from error
        if len(cells) != len(lines[0][1]):
            raise ValueError(
                f"{path}, line {number}: {len(cells)} entries, where line {lines[0][0]} has {len(lines[0][1])}; "
                "give all lines as many, with points, not commas, in numbers"
            )
    if not rows:
        raise ValueError(f"{path} holds no rows of numbers")
    try:
        return _checked(torch.tensor(rows))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_images(folder: Path) -> Tensor:
    from PIL import Image  # matplotlib needs it too; here, because only a folder of images does

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not paths:
        raise ValueError(
            f"{folder} holds no images ({', '.join(IMAGES)}): name the folder that holds them; those inside it are not "
            "looked into"
        )
    images, grey = [], True
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):  # Pillow would clip them to white
                    raise ValueError(
                        f"{path} has more than 8 bits a pixel: save it with 8, or all images as one .npy file, scaled "
                        "to between 0 and 1"
                    )
                grey = grey and image.mode in ("1", "L", "LA")
                images.append(image.convert("RGBA"))
        except OSError as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        if images[-1].size != images[0].size:
            sizes = " and ".join("{} × {}".format(*image.size) for image in (images[0], images[-1]))
            raise ValueError(f"{paths[0].name} and {path.name} have {sizes} pixels: bring all images to one size")
    white = Image.new("RGBA", images[0].size, "white")
    flat = (Image.alpha_composite(white, image).convert("L" if grey else "RGB") for image in images)
    return _tidy(np.stack([np.asarray(image) for image in flat]))
