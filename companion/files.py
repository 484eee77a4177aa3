"""Rows to learn from, by name: the book's data sets, and the reader's own tables and images."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from companion import checkpoint, data
from companion.checks import check_tensor

#: The names that `rows_of` knows.
NAMES = (
    *("ring", "grid", "moons", "checkerboard", "spiral"),
    *("digits", "hangul", "hangul28", "mnist", "fashion-mnist"),
)
#: Endings of the files that `read` takes for images in a folder.
IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_MISSING = ("", "nan", "na")
_WORDS = dict.fromkeys(_MISSING, math.nan) | {"true": 1.0, "false": 0.0}


def rows_of(name: str) -> tuple[Tensor, Tensor]:
    """The rows to learn from, and those kept back to measure: of hangul, mnist and fashion-mnist the ones meant for it.

    Args:
        name: one of NAMES, where "hangul28" has 28×28 pixels and of points there are 10,000; or a path for `read`.

    Returns:
        Tables, shape (n, d), the reader's own in double precision, or images, shape (n, channels, height, width), in
        [0, 1].

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
        x = _read(Path(name))
    if len(x) < 20:
        raise ValueError(
            f"{name} has {len(x)} row{'s' * (len(x) != 1)}: at least 20 are needed, of which a tenth is kept back to "
            "measure"
        )
    rows = torch.randperm(len(x), generator=generator)
    return x[rows[len(x) // 10 :]], x[rows[: len(x) // 10]]


def read(path: Path | str) -> Tensor:
    """A table, shape (n, d), or images, shape (n, 1 or 3, height, width) in [0, 1], from the reader's own files.

    Args:
        path: a folder of images of one size, read in the order of their names, grey if all are, on white where they
            are transparent, turned as EXIF says, hidden files left out; a CSV file of numbers, with or without a line
            of names, where an empty entry or NaN is missing and becomes NaN; an .npy file, or the only array, or the
            one named x, of an .npz file, of shape (n, d), (n, height, width), (n, height, width, 3) or
            (n, 3, height, width), images of type uint8, or between 0 and 1, as uint8 masks of 0 and 1 are too.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is another kind of file, damaged, a row of a table is empty, or the images differ in size.

    Warns:
        UserWarning: if a column of a table only numbers the rows, or is too large for float32 to tell its entries
            apart; if files of a folder are passed over, or hold several images; or if an array may be one photo.
    """
    x = _read(Path(path))
    if x.ndim == 2:
        lost = (x - x.float()).abs().nan_to_num().amax(0)
        spread = x.nan_to_num(-torch.inf).amax(0) - x.nan_to_num(torch.inf).amin(0)
        coarse = ((spread > 0) & (lost > spread / 100)).nonzero().flatten().tolist()
        names = columns(str(path)) if coarse else []
        for i in coarse:
            warnings.warn(
                f"{column(i, names)} differs by less than float32 can tell: subtract a number from it, or "
                "take rows_of, which keeps double precision",
                stacklevel=2,
            )
    return x.float()


def columns(name: str) -> list[str]:
    """The names of the columns in the first line of a CSV file; none of other data."""
    path = Path(name).expanduser()
    return _names(_lines(path)) if path.suffix.lower() == ".csv" and path.is_file() else []


def column(i: int, names: list[str]) -> str:
    """What a message calls a column."""
    return f"column {names[i]}" if names and names[i] else f"column {i + 1} (counted from 1)"


def save_filled(path: Path | str, table: Path | str, filled: Tensor) -> None:
    """Write a table as a CSV file in which gaps hold the entries of `filled`, and all else is as the table has it.

    The encoding is that of a table which is a CSV file.

    Args:
        path: the file to write.
        table: the table that `read` gives, a .csv, .npy or .npz file; a line of names is kept.
        filled: shape (n, d), of which the entries count that are missing in the table.

    Raises:
        TypeError: if `filled` is no tensor of float32 or float64.
        ValueError: if the shapes differ.
        OSError: if it cannot be written.
    """
    path, table = Path(path).expanduser(), Path(table).expanduser()
    filled = check_tensor("filled", filled).detach().cpu()
    given = table.suffix.lower() == ".csv"
    lines = [cells for _, cells in _lines(table)] if given else _array(table).tolist()
    names, rows = lines[: len(lines) - len(filled)], lines[len(lines) - len(filled) :]
    if len(names) > 1 or len(rows) != len(filled) or len(rows[0]) != filled.shape[1]:
        raise ValueError(f"{table} has {len(lines)} lines of {len(lines[0])} entries, filled {tuple(filled.shape)}")
    whole = [
        [str(value) if str(cell).strip().lower() in _MISSING else cell for cell, value in zip(*pair, strict=True)]
        for pair in zip(rows, filled.numpy(), strict=True)
    ]
    _write(path, names + whole, _text(table)[1] if given else "utf-8")


def save_table(path: Path, x: Tensor, names: list[str]) -> None:
    """Write x, shape (n, d), as a CSV file, below a line of names if there are any.

    Raises:
        OSError: if it cannot be written.
    """
    digits = 15 if x.dtype == torch.float64 else 9
    _write(path, [*[names] * bool(names), *([f"{value:.{digits}g}" for value in row] for row in x.tolist())], "utf-8")


def _write(path: Path, rows: list[list[str]], encoding: str) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with checkpoint.replacing(path) as file:
        file.write(text.getvalue().encode(encoding))


def _read(path: Path) -> Tensor:
    """What `read` gives, tables in double precision."""
    path = path.expanduser()
    if path.is_dir():
        return _read_images(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".npy", ".npz"):
        raise ValueError(f"{path} is no data set of the book ({', '.join(NAMES)}), folder, .csv, .npy or .npz file")
    try:
        return _table(path) if kind == ".csv" else _tidy(_array(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _array(path: Path) -> np.ndarray:
    """The array of data in an .npy or .npz file."""
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            name = "x" if "x" in loaded else ", ".join(loaded)
            x = loaded.get(name)
    except OSError:
        raise
    except MemoryError as error:
        raise ValueError("it does not fit into the memory: save fewer rows, or a smaller type such as uint8") from error
    except Exception as error:  # anything, where the bytes are foreign
        pickled = "allow_pickle" in str(error)
        reason = "it is damaged, or holds objects instead of numbers: save x.astype(float)" if pickled else error
        raise ValueError(f"{reason}") from error
    if not isinstance(x, np.ndarray):
        raise ValueError(f"it holds {name or 'nothing'}: name the array of data x")
    return x


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
    if x.ndim == 2:
        return _checked(torch.from_numpy(x.astype(np.float64)), [f"row {i + 1}" for i in range(len(x))], [])
    with np.errstate(over="ignore"):
        values = torch.from_numpy(x.astype(np.float32))
    if values.isnan().any():
        raise ValueError("images with missing entries (NaN): fill them in, or leave out those images")
    values = values / 255 if x.dtype == np.uint8 and x.max() > 1 else values
    if not -1e-3 <= values.min() <= values.max() <= 1 + 1e-3:
        raise ValueError(
            f"images from {values.min():g} to {values.max():g}: make them uint8, or scale them to between 0 and 1"
        )
    if len(given) == 3 and given[2] in (3, 4):
        warnings.warn(
            f"an array of shape {given} is read as {given[0]} grey images: stack photos to (n, height, width, 3)",
            stacklevel=4,
        )
    return values.clamp(0, 1)


def _checked(table: Tensor, places: list[str], names: list[str]) -> Tensor:
    """The table itself, unless a row is empty, or an entry too large for float32; with a note of columns 0, 1, 2, …

    Args:
        table: shape (n, d).
        places: what messages call the rows.
        names: of the columns, if they have any.
    """
    empty = table.isnan().all(1).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{places[empty[0]]} is empty: remove it")
    large = table.float().isinf().nonzero().tolist()
    if large:
        row, i = large[0]
        raise ValueError(
            f"{places[row]}, {column(i, names)}, is infinite or above 3e38: correct it, or mark it as missing"
        )
    counted = torch.arange(len(table))[:, None]
    for i in ((table == counted).all(0) | (table == counted + 1).all(0)).nonzero().flatten().tolist():
        if len(table) > 2:
            warnings.warn(
                f"{column(i, names)} looks like row numbers, and is learnt like any other: remove it unless it means "
                "something",
                stacklevel=4,
            )
    return table


def _text(path: Path) -> tuple[str, str]:
    """The text of a CSV file and its encoding: UTF-8, or what Excel writes in Korea or in the West."""
    content = path.read_bytes()
    if b"\0" in content:
        raise ValueError(
            "it is UTF-16, or no text: save it as UTF-8 (in Excel as the type CSV UTF-8, in an editor by the choice of "
            "encoding)"
        )
    unicode = "utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8"
    for encoding in (unicode, "cp949"):
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding), encoding
    return content.decode("latin-1"), "latin-1"


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank: the numbers at which they start, from 1, and entries."""
    reader, lines, start = csv.reader(io.StringIO(_text(path)[0], newline="")), [], 1
    try:
        for cells in reader:
            lines += [(start, cells)] if len(cells) > 1 or "".join(cells).strip() else []
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {start}: {error}") from error
    return lines


def _number(cell: str) -> float:
    """An entry of a CSV file, NaN if it is missing."""
    word = cell.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    with contextlib.suppress(ValueError):
        if "_" not in word:  # 2020_01 is 202001 to Python
            return float(word)
    cut = "…" * (len(cell) > 40)
    raise ValueError(f"could not convert string to float: {cell[:40] + cut!r}")


def _names(lines: list[tuple[int, list[str]]]) -> list[str]:
    """The entries of the first line, unless they are numbers, and not those by which pandas counts unnamed columns."""
    names, *rows = [cells for _, cells in lines] or [[]]
    names = [cell.strip() for cell in names]
    try:
        for cell in names:
            _number(cell)
    except ValueError:
        return names
    index = names[:1] == [""]  # above the numbers of the rows, which have no name
    counts = [[str(i + first) for i in range(len(names) - index)] for first in (0, 1)]
    counted = len(names) - index > 1 and names[index:] in counts and names not in rows
    numbered = bool(rows) and all(cells[0].strip() == str(i) for i, cells in enumerate(rows))
    return names if counted or (index and numbered) else []


def _table(path: Path) -> Tensor:
    lines = _lines(path)
    names = _names(lines)
    rows, places = [], [f"line {number}" for number, _ in lines[bool(names) :]]
    for place, (_, cells) in zip(places, lines[bool(names) :], strict=True):
        try:
            rows.append([_number(cell) for cell in cells])
        except ValueError as error:
            line = "" if any(map(str.isdigit, "".join(cells))) else "the line if it holds units, "
            raise ValueError(
                f"{place}: {error}; remove {line}columns of text, leave missing entries empty, put commas between "
                "entries and points in numbers"
            ) from error
        if len(cells) != len(lines[0][1]):
            raise ValueError(
                f"{place}: {len(cells)} entr{'y' if len(cells) == 1 else 'ies'}, where line {lines[0][0]} has "
                f"{len(lines[0][1])}; give all lines as many, with points, not commas, in numbers"
            )
    if not rows:
        raise ValueError("it holds no rows of numbers")
    return _checked(torch.tensor(rows, dtype=torch.float64), places, names)


def _read_images(folder: Path) -> Tensor:
    present = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    paths = [path for path in present if path.suffix.lower() in IMAGES]
    others = [path.name for path in present if path.suffix.lower() not in IMAGES]
    if not paths:
        raise ValueError(
            f"{folder} holds no images ({', '.join(IMAGES)}): name the folder that holds them; those inside it are not "
            "looked into"
        )
    if others:
        warnings.warn(
            f"{folder}: {len(others)} passed over, such as {others[0]}, which is none of {', '.join(IMAGES)}",
            stacklevel=4,
        )
    images, several = [], []
    for path in paths:
        try:
            image, more = _image(path)
        except Exception as error:  # anything, where the bytes are foreign
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        images.append(image)
        several += [path.name] * more
        if image.shape != images[0].shape:
            sizes = " and ".join(f"{width} × {height}" for height, width, _ in (images[0].shape, image.shape))
            raise ValueError(f"{paths[0].name} and {path.name} have {sizes} pixels: bring all images to one size")
    if several:
        warnings.warn(
            f"{folder}: {len(several)} with several images, such as {several[0]}: of each the first is read",
            stacklevel=4,
        )
    x = np.stack(images).transpose(0, 3, 1, 2)
    return _tidy(x[:, :1] if (x == x[:, :1]).all() else x)


def _image(path: Path) -> tuple[np.ndarray, bool]:
    """An image as a camera means it to be turned, shape (height, width, 3), on white; and whether it has others."""
    from PIL import Image, ImageOps  # matplotlib needs it too; here, because only a folder of images does

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip them to white
                raise ValueError(
                    "it has more than 8 bits a pixel: save it with 8, or all images as one .npy file, scaled to "
                    "between 0 and 1"
                )
            turned = ImageOps.exif_transpose(image).convert("RGBA")
            white = Image.new("RGBA", turned.size, "white")
            flat = Image.alpha_composite(white, turned).convert("RGB")
            return np.asarray(flat), getattr(image, "is_animated", False)
