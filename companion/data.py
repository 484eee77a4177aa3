"""Data sets of the book: points in the plane, digits, all Hangul syllables, MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from companion.checks import check_int, check_number

#: The letters of a syllable in Unicode order: 19 initial consonants, 21 vowels, 28 finals of which the first is none.
CHOSEONG = tuple("ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ")
JUNGSEONG = tuple("ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ")
JONGSEONG = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
#: The letters in Latin script, by the Revised Romanization's rule for writing letters, not sounds (chapter 3, § 8).
_LATIN = {"": ""} | dict(
    re.findall(
        r"(.):(\w+)",
        """
        ㄱ:g ㄲ:kk ㄴ:n ㄷ:d ㄸ:tt ㄹ:l ㅁ:m ㅂ:b ㅃ:pp ㅅ:s ㅆ:ss ㅇ:ng ㅈ:j ㅉ:jj ㅊ:ch ㅋ:k ㅌ:t ㅍ:p ㅎ:h
        ㄳ:gs ㄵ:nj ㄶ:nh ㄺ:lg ㄻ:lm ㄼ:lb ㄽ:ls ㄾ:lt ㄿ:lp ㅀ:lh ㅄ:bs
        ㅏ:a ㅐ:ae ㅑ:ya ㅒ:yae ㅓ:eo ㅔ:e ㅕ:yeo ㅖ:ye ㅗ:o ㅘ:wa ㅙ:wae ㅚ:oe ㅛ:yo ㅜ:u ㅝ:wo ㅞ:we ㅟ:wi ㅠ:yu
        ㅡ:eu ㅢ:ui ㅣ:i
        """,
    )
)


# --- points in the plane ---------------------------------------------------------------------------------------------


def ring_modes(modes: int = 8, radius: float = 1.0) -> Tensor:
    """Centres of `ring`, shape (modes, 2), the first on the positive horizontal axis."""
    angle = torch.arange(check_int("modes", modes)) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def grid_modes(side: int = 5, spacing: float = 2.0) -> Tensor:
    """Centres of `grid`, shape (side², 2), around the origin."""
    line = (torch.arange(check_int("side", side)) - (side - 1) / 2) * spacing
    return torch.cartesian_prod(line, line)


def ring(
    n: int, modes: int = 8, *, radius: float = 1.0, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Mixture of equal Gaussians on a circle; the defaults are the 2D-ring of PacGAN (Lin et al. 2018).

    Args:
        n: number of points.
        modes: number of Gaussians; `ring_modes(modes, radius)` gives their centres.
        radius: radius of the circle.
        std: standard deviation of each Gaussian along each axis.
        generator: source of randomness.

    Returns:
        Points, shape (n, 2).

    Raises:
        TypeError: if n or modes is no integer.
        ValueError: if n or modes is less than 1 or std is negative.
    """
    return _around(ring_modes(modes, radius), n, std, generator)


def grid(
    n: int, side: int = 5, *, spacing: float = 2.0, std: float = 0.05, generator: Generator | None = None
) -> Tensor:
    """Mixture of side² equal Gaussians on a square grid; the defaults are the 2D-grid of PacGAN (Lin et al. 2018).

    Args:
        n: number of points.
        side: Gaussians along each axis; `grid_modes(side, spacing)` gives their centres.
        spacing: distance between neighbouring centres.
        std: standard deviation of each Gaussian along each axis.
        generator: source of randomness.

    Returns:
        Points, shape (n, 2).

    Raises:
        TypeError: if n or side is no integer.
        ValueError: if n or side is less than 1 or std is negative.
    """
    return _around(grid_modes(side, spacing), n, std, generator)


def moons(n: int, *, std: float = 0.1, generator: Generator | None = None) -> Tensor:
    """Two interleaved half circles of radius 1 with Gaussian noise `std`, centred on the origin; shape (n, 2)."""
    check_number("std", std, zero=True)
    angle = math.pi * torch.rand(check_int("n", n), generator=generator)
    sign = torch.randint(2, (n,), generator=generator) * 2.0 - 1
    x = sign[:, None] * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return x + std * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, cells: int = 4, *, generator: Generator | None = None) -> Tensor:
    """Uniform points on the dark squares of a cells × cells board over [−2, 2]²; shape (n, 2)."""
    board = torch.cartesian_prod(torch.arange(check_int("cells", cells)), torch.arange(cells))
    dark = board[board.sum(dim=1) % 2 == 0]
    corner = dark[torch.randint(len(dark), (check_int("n", n),), generator=generator)]
    return (corner + torch.rand(n, 2, generator=generator)) * (4 / cells) - 2


def spiral(n: int, turns: float = 2.0, *, std: float = 0.05, generator: Generator | None = None) -> Tensor:
    """One Archimedean spiral from the origin to radius 2, uniform in area, with Gaussian noise `std`; shape (n, 2)."""
    check_number("std", std, zero=True)
    share = torch.rand(check_int("n", n), generator=generator).sqrt()
    angle = 2 * math.pi * turns * share
    x = 2 * share[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + std * torch.randn(n, 2, generator=generator)


def _around(centres: Tensor, n: int, std: float, generator: Generator | None) -> Tensor:
    check_number("std", std, zero=True)
    mode = torch.randint(len(centres), (check_int("n", n),), generator=generator)
    return centres[mode] + std * torch.randn(n, 2, generator=generator)


# --- scanned digits --------------------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 handwritten digits of scikit-learn: x (1797, 64) in [0, 1], flat 8×8 images, and y (1797,), 0 to 9."""
    from sklearn.datasets import load_digits  # here, because it takes as long to import as torch

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x).float() / 16, torch.from_numpy(y).long()


# --- Hangul ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Hangul:
    """All 11,172 modern syllables in Unicode order, with the concept z and the form x of each.

    Attributes:
        x: flat images, shape (11172, size²), ink 1 on paper 0.
        labels: z = (initial, vowel, final), shape (11172, 3), indices into `CHOSEONG`, `JUNGSEONG`, `JONGSEONG`.
        train: indices of the training syllables, about 90 %.
        held_out: indices of the others.
    """

    x: Tensor
    labels: Tensor
    train: Tensor
    held_out: Tensor


def hangul(size: int = 16) -> Hangul:
    """All modern Hangul syllables, drawn in NanumGothic at 16×16 or 28×28 pixels.

    The syllable z = (i, v, f) is held out of training if i + v + f leaves the remainder 9 on division by 10. Hence
    every pair of letters, in any two of the three places, occurs both in training and among the 1,117 held out.

    Args:
        size: side of an image in pixels, 16 or 28.

    Raises:
        ValueError: there are no images of this size.
    """
    with np.load(Path(__file__).with_name("hangul.npz")) as images:
        if f"x{size}" not in images:
            raise ValueError(f"size must be 16 or 28, got {size!r}")
        x = torch.from_numpy(images[f"x{size}"]).float() / 255
    labels = torch.cartesian_prod(*(torch.arange(len(letters)) for letters in (CHOSEONG, JUNGSEONG, JONGSEONG)))
    held_out = labels.sum(dim=1) % 10 == 9
    return Hangul(x, labels, torch.where(~held_out)[0], torch.where(held_out)[0])


def compose(choseong: int, jungseong: int, jongseong: int = 0) -> str:
    """The syllable of three letters: compose(0, 0, 1) is "각".

    Args:
        choseong: index of the initial consonant in `CHOSEONG`, 0 to 18.
        jungseong: index of the vowel in `JUNGSEONG`, 0 to 20.
        jongseong: index of the final in `JONGSEONG`, 0 to 27; 0 is none.

    Raises:
        TypeError: if an index is no integer.
        ValueError: if an index is out of range.
    """
    i, v, f = choseong, jungseong, jongseong
    for name, value, letters in (("choseong", i, CHOSEONG), ("jungseong", v, JUNGSEONG), ("jongseong", f, JONGSEONG)):
        if check_int(name, value, 0) >= len(letters):
            raise ValueError(f"{name} must be 0 to {len(letters) - 1}, got {value}")
    return chr(0xAC00 + (i * len(JUNGSEONG) + v) * len(JONGSEONG) + f)


def place(syllable: str) -> int:
    """The row of a syllable in `hangul().x`: that of "가" is 0, of "각" 1.

    A syllable that is written as its letters, as in file names of macOS (NFD), is the same syllable.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is not one syllable from 가 to 힣.
    """
    if not isinstance(syllable, str):
        raise TypeError(f"syllable must be a str, not {type(syllable).__name__}")
    composed = unicodedata.normalize("NFC", syllable)
    if len(composed) != 1 or not "가" <= composed <= "힣":
        points = " ".join(f"U+{ord(character):04X}" for character in syllable) or "no character"
        raise ValueError(f"syllable must be one modern Hangul syllable, 가 to 힣, got {syllable!r} ({points})")
    return ord(composed) - 0xAC00


def decompose(syllable: str) -> tuple[int, int, int]:
    """The three letters of a syllable as indices into `CHOSEONG`, `JUNGSEONG`, `JONGSEONG`: "각" is (0, 0, 1).

    Raises:
        TypeError, ValueError: as `place` does.
    """
    rest, jongseong = divmod(place(syllable), len(JONGSEONG))
    return *divmod(rest, len(JUNGSEONG)), jongseong


def romanise(text: str) -> str:
    """Hangul in Latin script, letter by letter: "한글" is "hangeul", "뷁" "bwelg", "ㅏ" "a"; all else stays.

    This is the Revised Romanization of 2000 in its form that shows the spelling rather than the sound (rule 8), so that
    other letters get other names: a silent ㅇ is a hyphen, or nothing at the start of a word.

    Raises:
        TypeError: if it is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    parts: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if "가" <= character <= "힣":
            i, v, f = decompose(character)
            follows = bool(parts) and parts[-1][-1:].isalpha()
            first = ("-" if follows else "") if CHOSEONG[i] == "ㅇ" else _LATIN[CHOSEONG[i]]
            parts.append(first + _LATIN[JUNGSEONG[v]] + _LATIN[JONGSEONG[f]])
        else:
            parts.append(_LATIN.get(character, character))
    return "".join(parts)


# --- MNIST and Fashion-MNIST -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Archive:
    """Where a data set in the idx format of MNIST is found, and how its files are recognised."""

    name: str
    mirrors: tuple[str, ...]
    #: file name: SHA-256 of the published .gz, SHA-256 of what is in it (the same however it was compressed)
    files: dict[str, tuple[str, str]]

    def cache(self) -> Path:
        """The folder that keeps downloaded files; the variable COMPANION_DATA moves it."""
        import pooch  # here and below, because whoever downloads nothing need not have it

        return Path(os.environ.get("COMPANION_DATA") or pooch.os_cache("companion")).expanduser() / self.name

    def load(self, split: str) -> tuple[Tensor, Tensor]:
        if split not in ("train", "test"):
            raise ValueError(f'split must be "train" or "test", got {split!r}')
        images, labels = (self._find(file) for file in self.files if file.startswith(_PREFIX[split]))
        x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32)).div_(255)
        return x, torch.from_numpy(labels.astype(np.int64))

    def _find(self, file: str) -> np.ndarray:
        """The array in `file`, from disk if it is there, otherwise from the first mirror that gives it."""
        import pooch

        cache = self.cache()
        published, content = self.files[file]
        failures = []
        for folder in (cache, _SYSTEM / self.name):
            if (folder / file).exists():
                try:
                    return read_idx(folder / file, content)
                except ValueError as error:
                    failures.append(str(error))
        for mirror in self.mirrors:
            try:
                # timeout: seconds to connect, seconds without a byte
                download = pooch.HTTPDownloader(progressbar=True, timeout=(10, 30))
                pooch.retrieve(mirror + file, f"sha256:{published}", fname=file, path=cache, downloader=download)
                return read_idx(cache / file, content)
            except (OSError, ValueError) as error:
                failures.append(f"{mirror + file}: {error}")
        raise FileNotFoundError(
            f"{self.name}: {file} could not be loaded. What was tried:\n  "
            + "\n  ".join(failures)
            + f"\nWithout a network, put these files into {cache}\n  "
            + "\n  ".join(self.files)
            + "\nfrom any of these addresses, or name another folder in the variable COMPANION_DATA\n  "
            + "\n  ".join(self.mirrors)
        )


_PREFIX = {"train": "train", "test": "t10k"}
#: Debian's packages of data sets (dataset-fashion-mnist) put their files here.
_SYSTEM = Path("/usr/share/datasets")
_MNIST = _Archive(
    "mnist",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    {
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
)
_FASHION_MNIST = _Archive(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    {
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
)


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Handwritten digits (LeCun et al. 1998), downloaded once and checked.

    The files stay in the user's cache folder, or in the one that the environment variable COMPANION_DATA names.

    Args:
        split: "train", n = 60,000, or "test", n = 10,000.

    Returns:
        x: flat 28×28 images, shape (n, 784), in [0, 1]; y: digits, shape (n,).

    Raises:
        FileNotFoundError: no file and no network; the message says which files to put where.
        ValueError: there is no such split.
    """
    return _MNIST.load(split)


def fashion_mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Articles of clothing in ten classes (Xiao et al. 2017); same sizes, returns and errors as `mnist`.

    Args:
        split: "train" or "test".
    """
    return _FASHION_MNIST.load(split)


def read_idx(path: Path | str, sha256: str | None = None) -> np.ndarray:
    """The array of bytes in a gzipped idx file, the format of MNIST.

    Args:
        path: the file.
        sha256: checksum that the uncompressed content must have.

    Raises:
        ValueError: the file is damaged, cut short, no idx file of bytes, or not the one with this checksum.
    """
    path = Path(path).expanduser()
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the published file: its content has another checksum")
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is no idx file of bytes")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4).tolist()
    start = 4 + 4 * len(shape)
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path} holds {len(content) - start} bytes where its header promises {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
