"""Data sets of the book: points in the plane, digits, all Hangul syllables, MNIST and Fashion-MNIST."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor

#: The letters of a syllable in Unicode order: 19 initial consonants, 21 vowels, 28 finals of which the first is none.
CHOSEONG = tuple("ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ")
JUNGSEONG = tuple("ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ")
JONGSEONG = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")


# --- points in the plane ---------------------------------------------------------------------------------------------


def ring_modes(modes: int = 8, radius: float = 1.0) -> Tensor:
    """Centres of `ring`, shape (modes, 2), the first on the positive horizontal axis."""
    angle = torch.arange(_positive("modes", modes)) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def grid_modes(side: int = 5, spacing: float = 2.0) -> Tensor:
    """Centres of `grid`, shape (side², 2), around the origin."""
    line = (torch.arange(_positive("side", side)) - (side - 1) / 2) * spacing
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

    Returns:
        Points, shape (n, 2).
    """
    return _around(ring_modes(modes, radius), n, std, generator)


def grid(
    n: int, side: int = 5, *, spacing: float = 2.0, std: float = 0.05, generator: Generator | None = None
) -> Tensor:
    """Mixture of side² equal Gaussians on a square grid; the defaults are the 2D-grid of PacGAN (Lin et al. 2018).

    Args:
        n: number of points.
        side: Gaussians along each axis; `grid_modes(side, spacing)` gives their centres.
        spacing: distance of neighbouring centres.
        std: standard deviation of each Gaussian along each axis.

    Returns:
        Points, shape (n, 2).
    """
    return _around(grid_modes(side, spacing), n, std, generator)


def moons(n: int, *, std: float = 0.1, generator: Generator | None = None) -> Tensor:
    """Two interleaved half circles of radius 1 with Gaussian noise `std`, centred on the origin; shape (n, 2)."""
    angle = math.pi * torch.rand(_positive("n", n), generator=generator)
    sign = torch.randint(2, (n,), generator=generator) * 2.0 - 1
    x = sign[:, None] * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return x + std * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, cells: int = 4, *, generator: Generator | None = None) -> Tensor:
    """Uniform points on the dark squares of a cells × cells board over [−2, 2]²; shape (n, 2)."""
    board = torch.cartesian_prod(torch.arange(_positive("cells", cells)), torch.arange(cells))
    dark = board[board.sum(dim=1) % 2 == 0]
    corner = dark[torch.randint(len(dark), (_positive("n", n),), generator=generator)]
    return (corner + torch.rand(n, 2, generator=generator)) * (4 / cells) - 2


def spiral(n: int, turns: float = 2.0, *, std: float = 0.05, generator: Generator | None = None) -> Tensor:
    """One Archimedean spiral from the origin to radius 2, uniform in area, with Gaussian noise `std`; shape (n, 2)."""
    share = torch.rand(_positive("n", n), generator=generator).sqrt()
    angle = 2 * math.pi * turns * share
    x = 2 * share[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + std * torch.randn(n, 2, generator=generator)


def _around(centres: Tensor, n: int, std: float, generator: Generator | None) -> Tensor:
    if std < 0:
        raise ValueError(f"std must not be negative, got {std}")
    mode = torch.randint(len(centres), (_positive("n", n),), generator=generator)
    return centres[mode] + std * torch.randn(n, 2, generator=generator)


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value


# --- scanned digits --------------------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 handwritten digits of scikit-learn: x (1797, 64) in [0, 1], flat 8×8 images, and y (1797,), 0 to 9."""
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

    The letters z = (i, v, f) are held out of training where i + v + f leaves 9 on division by 10. Hence every
    pair of letters, in every two of the three places, occurs both in training and among the 1,117 held out.

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
    """
    for name, value, letters in (
        ("choseong", choseong, CHOSEONG),
        ("jungseong", jungseong, JUNGSEONG),
        ("jongseong", jongseong, JONGSEONG),
    ):
        if not 0 <= value < len(letters):
            raise ValueError(f"{name} must be 0 to {len(letters) - 1}, got {value}")
    return chr(0xAC00 + (int(choseong) * len(JUNGSEONG) + int(jungseong)) * len(JONGSEONG) + int(jongseong))


def decompose(syllable: str) -> tuple[int, int, int]:
    """The three letters of a syllable as indices into `CHOSEONG`, `JUNGSEONG`, `JONGSEONG`: "각" is (0, 0, 1)."""
    if not isinstance(syllable, str) or len(syllable) != 1 or not "가" <= syllable <= "힣":
        raise ValueError(f"syllable must be one modern Hangul syllable, 가 to 힣, got {syllable!r}")
    rest, jongseong = divmod(ord(syllable) - 0xAC00, len(JONGSEONG))
    return *divmod(rest, len(JUNGSEONG)), jongseong
