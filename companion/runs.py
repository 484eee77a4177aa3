"""A run of `python -m companion`: a folder with a model, the settings that it was made by, and how good it is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import textwrap
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from companion import checkpoint, data, files, metrics, plots
from companion.autoencoder import Autoencoder
from companion.checks import check_int
from companion.devices import evaluating, find_device, find_precision, global_generators
from companion.diffusion import Diffusion, Heun
from companion.gan import GAN
from companion.likelihoods import Gaussian, bernoulli
from companion.nets import ResidualMLP, UNet, conv_decoder, conv_encoder, mlp
from companion.parallel import Group
from companion.ppca import PPCA
from companion.training import fit, load
from companion.vae import VAE

#: The families, and what `fit` is told of each beside the options.
FAMILIES = {
    "ppca": {},
    "autoencoder": {},
    "vae": {"ema": 0.99},
    "gan": {"ema": 0.99, "betas": (0.0, 0.99)},
    "diffusion": {"ema": 0.99},
}
#: What `train` takes where neither its options nor the run that goes on say.
DEFAULTS = {"steps": 5000, "batch_size": 128, "lr": 1e-3, "seed": 0}
#: What of the settings the user decides, and the training goes on with.
OPTIONS = ("family", "network", "latent_dim", "width", "batch_size", "lr", "seed")
#: The networks of which `train` builds models.
NETWORKS = ("mlp", "conv")
#: How many rows and samples are compared.
MEASURED = 500
_USELESS = {"ppca": ("network", "width", "steps", "batch_size", "lr"), "diffusion": ("latent_dim",)}
_KINDS = {"family": str, "data": str, "shape": list, "shift": float | list, "scale": float | list, "network": str}
_KINDS |= {"latent_dim": int, "width": int, "steps": int, "batch_size": int, "lr": int | float, "seed": int}
_KINDS |= {"device": str | None}
_OF_OWN_DATA = {"rows": int, "columns": list, "fingerprint": str}


class Run:
    """What one folder holds: settings.json, the checkpoint, samples.png and metrics.json.

    Args:
        folder: it may not exist yet.
        settings: "family", one of FAMILIES, "data" for `files.rows_of`, "shape" of
            one x, "shift" and "scale" with which the model sees (x − shift) / scale, "network" ("mlp" or "conv"),
            "latent_dim", "width", "steps", "batch_size", "lr", "seed" and "device"; for data of the reader's own also
            "rows", how many there are, their "fingerprint", and "columns", the names in a table; by default those of
            settings.json.

    Raises:
        ValueError: if there are no settings, or they are damaged.
    """

    def __init__(self, folder: Path, settings: dict | None = None) -> None:
        folder = folder.expanduser()
        about = folder / "settings.json"
        if settings is None and not about.exists():
            if (folder / "checkpoint.safetensors").exists():
                raise ValueError(f"{folder} lacks its settings.json: put it back, or train anew in another --folder")
            raise ValueError(
                f"{folder} holds no run: name the folder that train has made, such as runs/vae-digits, or make one by "
                "python -m companion train vae digits"
            )
        self.settings = _settings_of(about) if settings is None else settings
        self.folder, self.checkpoint = folder, folder / "checkpoint.safetensors"
        named = self.settings["data"]
        #: Where the data are, the name if they are the book's.
        self.place = named if named in files.NAMES else Path(named).expanduser().resolve()
        self.family, self.latent_dim = self.settings["family"], self.settings["latent_dim"]
        self.shape = torch.Size(self.settings["shape"])
        self.pixels, self.conv = len(self.shape) == 3, self.settings["network"] == "conv"
        self.shift, self.scale = (torch.tensor(self.settings[name], dtype=torch.float64) for name in ("shift", "scale"))

    @classmethod
    def planned(cls, given: Namespace, rows: Tensor, kept: Tensor) -> Run:
        """The run that `train` is asked for: what its options leave open, the run that goes on or the data decide.

        Args:
            given: the options of `train`.
            rows, kept: what `files.rows_of` gives.

        Raises:
            ValueError: if the family cannot learn these rows, or there is no run to go on.
        """
        shape, pixels = rows.shape[1:], rows.ndim == 4
        d = shape.numel()
        if given.family == "ppca" and (given.latent_dim or 1) >= d:
            columns = f"{d} column{'s' * (d > 1)}"
            raise ValueError(
                f"{given.data} has {columns}: ppca needs at least 2, and a --latent-dim below their number"
            )
        for name in _USELESS.get(given.family, ()):
            if getattr(given, name) is not None:
                raise ValueError(f"{given.family} has no --{name.replace('_', '-')}: leave it out")
        if given.network == "conv" and not pixels:
            raise ValueError(f"{given.data} is a table, and --network conv is for images: leave out --network")
        divisible = pixels and not any(side % 4 for side in shape[1:])
        if given.network == "conv" and not divisible:
            raise ValueError(
                f"{given.data} has images of {shape[1]} × {shape[2]}, and --network conv is for sides that are "
                "multiples of 4: leave out --network, or crop the images"
            )
        if given.family != "ppca" and (rows.isnan().any() or kept.isnan().any()):
            raise ValueError(
                f"{given.data} has missing entries: only ppca takes them; fill them in, or leave out their rows"
            )
        columns, (shift, scale) = [], (0.5, 0.5) if given.family == "diffusion" else (0.0, 1.0)
        if not pixels:
            columns = files.columns(given.data)
            try:
                shift, scale = units(rows, columns)
            except ValueError as error:
                raise ValueError(f"{given.data}: {error}") from error
            note_extremes(torch.cat([rows, kept]), columns)
        folder = Path(given.folder or f"runs/{given.family}-{Path(given.data).expanduser().resolve().stem}")
        left_out = DEFAULTS | (Run(folder).settings if given.resume else {})
        given = Namespace(**{name: left_out.get(name) if x is None else x for name, x in vars(given).items()})
        network = given.network
        if network is None:
            network = "conv" if divisible and d > 1024 and given.family != "ppca" else "mlp"
        most = {"ppca": d - 1, "autoencoder": max(1, d // 2)}.get(given.family, 16)
        names = ("family", "data", "steps", "batch_size", "lr", "seed", "device")
        settings = {"shape": list(shape), "shift": shift, "scale": scale, "network": network}
        settings |= {"latent_dim": given.latent_dim or min(16, most)}
        settings |= {"width": given.width or (32 if network == "conv" else 256)}
        settings |= {name: getattr(given, name) for name in names}
        if given.data not in files.NAMES:
            settings |= {"rows": len(rows) + len(kept), "columns": columns, "fingerprint": fingerprint(rows, kept)}
        run = cls(folder, settings)
        run.rows = rows, kept
        return run

    def check_place(self, resume: bool) -> None:
        """Let a training pass that overwrites nothing, or goes on with the same data and options, --steps apart.

        Raises:
            ValueError: if it does not.
        """
        here = self.settings
        if self.folder.resolve() == self.place:
            raise ValueError(f"{self.folder} is the folder of the images: name another by --folder")
        if not resume and not self.checkpoint.exists():
            return
        before = Run(self.folder)
        if not resume:
            raise ValueError(f"{self.folder} holds a run: add --resume to go on, or name another by --folder")
        there = before.settings
        differing = [name for name in OPTIONS if here[name] != there.get(name)]
        if self.place != before.place and (there.get("fingerprint") or "") != here.get("fingerprint"):
            differing.append("data")
        if differing:
            name = differing[0]
            option = name if name in ("family", "data") else "--" + name.replace("_", "-")
            raise ValueError(
                f"{self.folder} was made with {option} {there.get(name)}, not {here[name]}: give the same, or name "
                "another by --folder"
            )
        before.check_data(*self.rows)
        done = self.saved()[1].get("done", 0) if self.checkpoint.exists() else 0
        if done > here["steps"]:
            raise ValueError(f"{self.folder} has done {done} steps: give --steps {done}, or more")

    def saved(self) -> tuple[dict[str, Tensor], dict]:
        """What `checkpoint.read` gives of the run's checkpoint.

        Raises:
            ValueError: if it is damaged, or cannot be read.
        """
        try:
            return checkpoint.read(self.checkpoint)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.checkpoint} is damaged or no checkpoint: put back a copy, or delete it and train again"
            ) from error

    @property
    def trained(self) -> bool:
        """Whether the checkpoint is there, and not only of the start."""
        return self.checkpoint.exists() and self.saved()[1].get("done") != 0

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """The folder with its settings.json, without what was measured before, while the block trains.

        After an error it stays if there is a trained model; if this is as it was before, so are the other files.

        Raises:
            OSError: if the folder cannot be made or written.
            FloatingPointError: if a loss or a weight is NaN or infinite.
        """
        new = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        about = self.folder / "settings.json"
        measured = [self.folder / name for name in ("samples.png", "metrics.json")]
        before = {path: path.read_bytes() for path in (about, *measured) if path.exists()}
        saved = self.checkpoint.exists() and self.checkpoint.stat().st_mtime_ns
        try:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(f"{self.folder} cannot be made a folder: {error.strerror}; name another one") from error
            _write(about, self.settings)
            for path in measured:
                path.unlink(missing_ok=True)
            self.move()
            saved = self.checkpoint.exists() and self.checkpoint.stat().st_mtime_ns
            yield
        except BaseException as error:
            if not self.trained:
                with contextlib.suppress(OSError):
                    self.checkpoint.unlink(missing_ok=True)
                    about.unlink(missing_ok=True)
                    for folder in new:
                        folder.rmdir()
            if not self.trained or self.checkpoint.stat().st_mtime_ns == saved:
                for path, content in before.items():
                    with checkpoint.replacing(path) as file:
                        file.write(content)
            if isinstance(error, FloatingPointError):
                what = str(error).partition(":")[0]
                kept = f"; {self.folder} keeps the last good state" if self.trained else ""
                raise FloatingPointError(f"{what}: try a smaller --lr{kept}") from error
            raise

    def learn(self, model: nn.Module, group: Group) -> int | None:
        """Train a model of `build`; returns the steps that are done if Ctrl-C ended it."""
        if group.size > 1:
            group.wait()  # until `made` has moved the checkpoint
        x = self.scaled(self.rows[0])
        if self.family == "ppca":
            own = x.tensor_split(group.size)[group.rank]
            shared = group.size > 1 and not x.isnan().any()
            model = PPCA.fit_stream([own], self.latent_dim) if shared else PPCA.fit(x, self.latent_dim)
            if group.rank == 0:
                weights = {f"model.{name}": value for name, value in model.state_dict().items()}
                checkpoint.write(self.checkpoint, weights, {})
            return None
        options = {name: self.settings[name] for name in DEFAULTS} | FAMILIES[self.family]
        history = fit(model, x, **options, device=self.device, checkpoint=self.checkpoint)
        return len(next(iter(history.losses.values()))) if history.interrupted else None

    @functools.cached_property
    def device(self) -> torch.device:
        """That of the settings; the best there is, with a note, if it is not here."""
        try:
            return find_device(self.settings["device"])
        except ValueError:
            here = find_device()
            there = self.settings["device"]
            warnings.warn(f"{there}, on which {self.folder} was trained, is not here: {here} is used", stacklevel=2)
            return here

    def move(self) -> None:
        """Let the checkpoint of a training go on with the present device, if it was another one's."""
        if not self.checkpoint.exists():
            return
        tensors, about = self.saved()
        here = {"device": self.device.type, "precision": find_precision("auto", self.device)}
        if "call" in about and not here.items() <= about["call"].items():
            noise = {f"rng.{i}": own.get_state() for i, own in enumerate(global_generators(self.device)) if i > 0}
            checkpoint.write(self.checkpoint, tensors | noise, about | {"call": about["call"] | here})

    @functools.cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """What `files.rows_of` gives, read once.

        Raises:
            FileNotFoundError: if they are not there.
            ValueError: if they are not those of the training.
        """
        if isinstance(self.place, Path) and not self.place.exists():
            raise FileNotFoundError(
                f"{self.settings['data']}, on which {self.folder} was trained, is not here: put it back, or give the "
                "command where train was given"
            )
        rows = files.rows_of(self.settings["data"])
        self.check_data(*rows)
        return rows

    def check_data(self, rows: Tensor, kept: Tensor) -> None:
        """Let only those rows pass which the model was trained on, and which were kept back then.

        Raises:
            ValueError: if they are others.
        """
        before, n = self.settings.get("fingerprint"), len(rows) + len(kept)
        if rows.shape[1:] != self.shape or before not in (None, fingerprint(rows, kept)):
            change = f", from {self.settings['rows']} rows to {n}" if self.settings.get("rows", n) != n else ""
            raise ValueError(
                f"{self.settings['data']} has changed since the training of {self.folder}{change}: put it back, or "
                "train anew in another --folder"
            )

    def about(self) -> str:
        """What was read, in one line."""
        n, shape = sum(map(len, self.rows)), " × ".join(map(str, self.shape))
        if self.pixels:
            return f"{self.settings['data']}: {n} images of {shape}"
        names = textwrap.shorten(", ".join(self.settings.get("columns", [])), 80, placeholder=" …")
        columns = f"{shape} column{'s' * (shape != '1')}" + f" ({names})" * bool(names)
        return f"{self.settings['data']}: {n} rows, {columns}"

    def scaled(self, x: Tensor) -> Tensor:
        """x on the model's scale, flat for networks that are not convolutional."""
        x = ((x - self.shift) / self.scale).float()
        return x if self.conv else x.flatten(1)

    def unscaled(self, x: Tensor) -> Tensor:
        """x in the data's units and shape, tables in double precision."""
        x = x.cpu().reshape(-1, *self.shape) * self.scale + self.shift
        return x.clamp(0, 1) if self.pixels else x

    def build(self) -> nn.Module:
        """The model, untrained.

        Raises:
            ValueError: if its networks are too large for the memory.
        """
        try:
            return self._built()
        except RuntimeError as error:
            width, q = self.settings["width"], self.latent_dim
            raise ValueError(
                f"networks of width {width} for {q} entries of z cannot be made: lower --width or --latent-dim"
            ) from error

    def _built(self) -> nn.Module:
        d, shape, q, width = self.shape.numel(), self.shape, self.latent_dim, self.settings["width"]

        def encoder(outputs: int) -> nn.Module:
            return conv_encoder(shape, outputs, width) if self.conv else mlp(d, width, width, outputs)

        torch.manual_seed(self.settings["seed"])
        if self.family == "ppca":
            return PPCA(torch.zeros(d, q), torch.zeros(d), 1.0)
        if self.family == "diffusion":
            return Diffusion(*((UNet(shape, width), shape) if self.conv else (ResidualMLP(d, width, 3), d)), "straight")
        decoder = conv_decoder(q, shape, width) if self.conv else mlp(q, width, width, d)
        if self.family == "gan":
            return GAN(nn.Sequential(decoder, nn.Sigmoid()) if self.pixels else decoder, encoder(1), q)
        if self.family == "vae":
            return VAE(encoder(2 * q), decoder, bernoulli if self.pixels else Gaussian())
        return Autoencoder(encoder(q), decoder)

    def load(self) -> nn.Module:
        """The model of the checkpoint.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        if not self.trained:
            raise ValueError(
                f"{self.folder} holds no trained model: train it by python -m companion train {self.family} "
                f"{self.settings['data']} --folder {self.folder} --resume"
            )
        model = self.build()
        try:
            load(model, self.checkpoint)
        except ValueError as error:
            raise ValueError(
                f"{self.checkpoint} and settings.json are of different models: put back a copy, or train anew in "
                "another --folder"
            ) from error
        return model.to(self.device)

    @torch.no_grad()
    def draw(self, model: nn.Module, n: int, seed: int = 0) -> Tensor:
        """n new x on the model's scale; of images, where there is p(x | z), its mean.

        Raises:
            ValueError: if the model is an autoencoder.
        """
        torch.manual_seed(seed)
        if self.family == "autoencoder":
            raise ValueError("an autoencoder has no p(z) to draw from: train a vae")
        if self.pixels and self.family in ("ppca", "vae"):
            with evaluating(model):
                return (model.decode if self.family == "vae" else model.likelihood)(model.prior().sample((n,))).mean
        return model.sample(n, Heun(20)) if self.family == "diffusion" else model.sample(n)

    def show(self, x: Tensor, path: Path) -> None:
        """Write a picture of x, which is in the data's units."""
        points = {} if self.pixels else {"data": self.rows[1][:MEASURED], self.family: x}
        with checkpoint.replacing(path) as file:
            if self.pixels:
                plots.save_images(1 - x if self.settings["data"] in files.NAMES else x, file)  # the book's have ink 1
            else:
                plots.save_points(points, file)

    @torch.no_grad()
    def report(self) -> tuple[dict, Tensor]:
        """What `store` takes: measures of the model on rows that it has not seen, and samples.

        What samples are worth, those rows say: training rows are compared with them by the same measures.
        """
        model, name = self.load(), self.settings["data"]
        device = next(iter(model.state_dict().values())).device
        seen, x = (self.scaled(rows[:MEASURED]).to(device) for rows in self.rows)
        record: dict[str, object] = {"rows": len(x)}
        if self.family in ("ppca", "vae", "diffusion"):
            nats = model.log_prob(x) if self.family == "ppca" else model.elbo(x)
            nats = (
                nats.cpu().double()
                - (~x.isnan()).flatten(1).double().cpu() @ self.scale.log().expand(self.shape).flatten()
            )
            key = "log p(x) in nats" if self.family == "ppca" else "lower bound of log p(x) in nats"
            record |= {key: nats.mean().item(), "standard error": nats.std().item() / len(x) ** 0.5}
        if self.family == "autoencoder":
            drawn = model.reconstruct(x)
            record["squared error"] = (drawn - x).square().mean().item()
            record["squared error of the mean"] = (seen.mean(0) - x).square().mean().item()
            shown = torch.stack([x[:32], drawn[:32]], 1).flatten(0, 1) if self.pixels else drawn
        else:
            drawn = shown = self.draw(model, MEASURED)
            rows = [part[part.flatten(1).isfinite().all(1)] for part in (drawn, seen, x)]  # the complete ones
            alike = torch.pdist(rows[2].flatten(1)).median() == 0  # then mmd has no scale
            if alike:
                warnings.warn("most rows kept back are the same: metrics.json has no mmd", stacklevel=2)
            for key, distance in (("mmd", metrics.mmd), ("frechet", metrics.frechet_distance)):
                if min(map(len, rows)) > 1 and (not alike if key == "mmd" else self.shape.numel() <= 2048):
                    record[key] = {"samples": distance(rows[0], rows[2]), "training rows": distance(rows[1], rows[2])}
        if name in ("hangul", "hangul28"):
            score = metrics.hangul_score(self.unscaled(drawn), data.hangul(self.shape[-1]))
            record |= {key: value for key, value in dataclasses.asdict(score).items() if value == value}  # no NaN
        if name in ("ring", "grid"):
            modes, std = (data.ring_modes(), 0.01) if name == "ring" else (data.grid_modes(), 0.05)
            record |= dataclasses.asdict(metrics.mode_score(self.unscaled(drawn).float(), modes, std))
        for key in [key for key, value in record.items() if not _finite(value)]:
            warnings.warn(f"{key} is not finite: metrics.json has none", stacklevel=2)
            del record[key]
        return record, self.unscaled(shown[:64] if self.pixels else shown)

    def store(self, record: dict, shown: Tensor) -> None:
        """Write metrics.json and samples.png.

        Raises:
            OSError: if one cannot be written.
        """
        self.show(shown, self.folder / "samples.png")
        _write(self.folder / "metrics.json", record)


def units(rows: Tensor, names: list[str]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column of a table, shape (n, d), without its gaps (NaN).

    Raises:
        ValueError: if a column, of which messages give the name, is constant or empty.
    """
    varies = rows.nan_to_num(torch.inf).amin(0) < rows.nan_to_num(-torch.inf).amax(0)
    if not varies.all():
        them, d = "it" if varies.sum() == len(varies) - 1 else "them", len(varies)
        square = d in (math.isqrt(d) ** 2, 3 * math.isqrt(d // 3) ** 2)
        images = "; if these are images, save them in shape (n, side, side) or (n, side, side, 3)" * (square and d > 16)
        raise ValueError(
            f"{_listed(~varies, names)} constant or empty in the rows to learn from: remove {them}{images}"
        )
    rows = rows.double()
    shift = rows.nanmean(0)
    return shift.tolist(), (rows - shift).square().nanmean(0).sqrt().tolist()


def note_extremes(rows: Tensor, names: list[str]) -> None:
    """Warn of columns of a table with entries beyond all others: 10,000 times as far from the median as is usual.

    That is told by the median of those distances that are not 0, which a value that stands for gaps does not move.
    """
    distance = (rows - rows.nanmedian(0).values).abs()
    usual = torch.where(distance > 0, distance, torch.nan).nanmedian(0).values
    extreme = (distance > 1e4 * usual).any(0)
    if extreme.any():
        warnings.warn(
            f"{_listed(extreme, names)} extreme in some rows, up to {rows[:, extreme].nan_to_num().abs().amax():g}: "
            "leave such entries empty if they stand for missing ones",
            stacklevel=3,
        )


def fingerprint(*parts: Tensor) -> str:
    """A checksum of tensors."""
    return hashlib.sha256("; ".join(map(checkpoint.fingerprint, parts)).encode()).hexdigest()


def _listed(columns: Tensor, names: list[str]) -> str:
    """The columns that are marked, three of them by name, and the verb."""
    marked = columns.nonzero().flatten().tolist()
    more = f" and {len(marked) - 3} more" * (len(marked) > 3)
    return ", ".join(files.column(i, names) for i in marked[:3]) + more + (" is" if len(marked) == 1 else " are")


def _finite(value: float | dict[str, float]) -> bool:
    return all(map(math.isfinite, value.values() if isinstance(value, dict) else [value]))


def _settings_of(path: Path) -> dict:
    """What settings.json holds, if it is whole."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings by name")
        wrong = [name for name, kind in _KINDS.items() if not isinstance(settings.get(name, ...), kind)]
        wrong += [name for name, kind in _OF_OWN_DATA.items() if not isinstance(settings.get(name, kind()), kind)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} missing or of a wrong kind")
        for name, known in (("family", FAMILIES), ("network", NETWORKS)):
            if settings[name] not in known:
                raise ValueError(f"{name} is {settings[name]}, none of {', '.join(known)}")
        for name in ("latent_dim", "width", "steps", "batch_size"):
            check_int(name, settings[name])
        if check_int("seed", settings["seed"], 0) >= 2**63:
            raise ValueError("seed must be below 2⁶³")
        for name in ("shift", "scale"):
            values = torch.tensor(settings[name])
            torch.broadcast_shapes(torch.Size(settings["shape"]), values.shape)
            if not values.isfinite().all() or (name == "scale" and not (values > 0).all()):
                raise ValueError(f"{name} must hold finite {'positive ' * (name == 'scale')}numbers")
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): put back a copy, or train anew in another folder") from error
    return settings


def _write(path: Path, values: dict) -> None:
    with checkpoint.replacing(path) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())
