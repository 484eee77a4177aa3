"""Train the network that writes names on the first page, store it in 8 bits a weight, and measure what is stored.

    python book/writer.py

On one core it takes from a quarter of an hour to an hour. Ctrl-C stops it, and the next call goes on. In
`book/_static` it leaves `writer.bin`, the weights; `writer.json`, what the page has to know of them, the recipe and the
figures; and `writer.png`, the way of two syllables from noise, which the page shows before it loads the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from companion.data import hangul, place
from companion.diffusion import Diffusion, Heun
from companion.metrics import hangul_score, nearest_syllable
from companion.nets import ResidualMLP
from companion.training import fit
from companion.widgets import as_bytes
from companion.widgets.diffusion import parts, sizes

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
LABELS = (19, 21, 28)
RECIPE = {"steps": 30_000, "batch_size": 256, "lr": 2e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}
RECIPE |= {"schedule": "cosine", "ema": 0.999}
#: How the page goes from noise to a syllable, and how much the letters count there at first.
SAMPLER, GUIDANCE = Heun(4), 2.5
#: Shown before the reader types; both syllables are held out.
SHOWN = "공원"


def new() -> Diffusion:
    """The model before its training: chapter 5b's, a little larger."""
    torch.manual_seed(0)
    return Diffusion(ResidualMLP(256, 384, 4, LABELS), 256, "straight", predict="data")


def train(checkpoint: Path, **recipe: object) -> Diffusion:
    """The model trained on the training syllables; in each, random letters are hidden (chapter 5b)."""
    data, model = hangul(16), new()
    x = 2 * data.x[data.train] - 1
    fit(model, x, data.labels[data.train], precision="float32", device="cpu", checkpoint=checkpoint, **recipe)
    return model


# --- 8 bits a weight --------------------------------------------------------------------------------------------------


def pack(model: Diffusion) -> bytes:
    """The network's tensors in JavaScript's order, in half precision a vector, and of a matrix the scales of its rows,
    before its entries as multiples of them from −127 to 127.
    """
    content = []
    for tensor in parts(model.denoiser):
        if tensor.ndim == 1:
            content.append(as_bytes(tensor.half()))
        else:
            scales = (tensor.abs().amax(1).clamp(min=1e-4) / 127).half()
            levels = (tensor / scales.float()[:, None]).round().clamp(-127, 127)
            content += [as_bytes(scales), as_bytes(levels.to(torch.int8))]
    return b"".join(content)


def unpack(content: bytes) -> Diffusion:
    """The model with the weights that `pack` stored."""
    model, at = new(), 0

    def read(kind: str, *shape: int) -> Tensor:
        nonlocal at
        numbers = np.frombuffer(content, kind, math.prod(shape), at)
        at += numbers.nbytes
        return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)

    for tensor in parts(model.denoiser):
        if tensor.ndim == 1:
            tensor.copy_(read("<f2", *tensor.shape))
        else:
            tensor.copy_(read("<f2", len(tensor), 1) * read("i1", *tensor.shape))
    return model


def stored() -> Diffusion:
    """The model that the page shows."""
    return unpack((STATIC / "writer.bin").read_bytes())


# --- what is measured -------------------------------------------------------------------------------------------------


def measure(model: Diffusion, rows: Tensor, guidance: float = GUIDANCE, seeds: int = 1) -> dict[str, float]:
    """How often the page writes the syllable that it is asked for, and legibly.

    Args:
        model: the model.
        rows: the syllables, rows of `hangul().x`, one asked for after the other.
        guidance: how much the letters count.
        seeds: how often with other noise.

    Returns:
        n, the number of images; right: the share to which no syllable is nearer than the one asked for; legible: the
        share that is legible by factor 2; both with their standard errors.
    """
    data = hangul(16)
    right, legible = [], []
    for seed in range(seeds):
        noise = torch.Generator().manual_seed(seed)
        x = model.sample(len(rows), SAMPLER, data.labels[rows], guidance, generator=noise) / 2 + 0.5
        right.append((nearest_syllable(x, data.x)[0] == rows).float().mean().item())
        legible.append(hangul_score(x, data, factor=2).legible)
    n = seeds * len(rows)
    shares = {"right": np.mean(right), "legible": np.mean(legible)}
    errors = {f"{name}_error": math.sqrt(share * (1 - share) / n) for name, share in shares.items()}
    return {"n": n, **{name: round(float(value), 4) for name, value in (shares | errors).items()}}


def figures(model: Diffusion) -> dict[str, dict]:
    """`measure` on held-out and on equally many training syllables, for several strengths of guidance."""
    data = hangul(16)
    training = data.train[:: len(data.train) // len(data.held_out)]
    held_out = {
        f"held out, guidance {guidance:g}": measure(model, data.held_out, guidance, 4)
        for guidance in (1, 2, GUIDANCE, 3)
    }
    return held_out | {f"training, guidance {GUIDANCE:g}": measure(model, training)}


def film(model: Diffusion) -> Image.Image:
    """The syllables of `SHOWN` one below the other, each from noise, on the left, to writing at the sampler's times."""
    rows = [place(syllable) for syllable in SHOWN]
    x_1 = torch.randn(len(rows), 256, generator=torch.Generator().manual_seed(0))
    path = torch.stack([point.x_t for point in SAMPLER.trajectory(model, x_1, hangul(16).labels[rows], GUIDANCE)])
    ink = path.reshape(-1, len(rows), 16, 16).permute(1, 2, 0, 3).reshape(16 * len(rows), -1)
    return Image.fromarray((127.5 - 127.5 * ink.clamp(-1, 1)).round().byte().numpy())


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    content = pack(train(ROOT / "build" / "writer.safetensors", **RECIPE))
    model = unpack(content)
    about = {
        "network": {"dim": 256, **sizes(model.denoiser), "labels": LABELS},
        "shapes": [list(tensor.shape) for tensor in parts(model.denoiser)],
        "schedule": "straight",
        "predicts": model.predicts,
        "steps": SAMPLER.steps,
        "recipe": RECIPE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "figures": figures(model),
    }
    (STATIC / "writer.bin").write_bytes(content)
    (STATIC / "writer.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8", newline="\n")
    film(model).save(STATIC / "writer.png", optimize=True)
    print(json.dumps(about["figures"], indent=1))


if __name__ == "__main__":
    main()
