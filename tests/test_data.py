from __future__ import annotations

import gzip
import hashlib
import http.server
import math
import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from companion import data

FONT = Path("/usr/share/fonts/truetype/nanum/NanumGothic.ttf")
FASHION = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not FASHION.exists(), reason="Debian's package dataset-fashion-mnist is missing")
needs_font = pytest.mark.skipif(not FONT.exists(), reason="Debian's package fonts-nanum is missing")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- points in the plane ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [data.ring, data.grid, data.moons, data.checkerboard, data.spiral])
def test_points_are_seeded_and_leave_the_global_generator_alone(draw):
    before = torch.get_rng_state()
    x = draw(500, generator=seeded())
    assert x.shape == (500, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, draw(500, generator=seeded()))
    assert not torch.equal(x, draw(500, generator=seeded(1)))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(x, draw(np.int64(500), generator=seeded()))
    for n in (0, -1):
        with pytest.raises(ValueError, match="n must be at least 1"):
            draw(n)
    for n in (2.5, True, "5"):
        with pytest.raises(TypeError, match="n must be an int"):
            draw(n)


@pytest.mark.parametrize("draw", [data.ring, data.grid, data.moons, data.spiral])
def test_noise_cannot_be_negative(draw):
    assert draw(5, std=0).shape == (5, 2)
    for std in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="std must be at least 0 and finite"):
            draw(5, std=std)


@pytest.mark.parametrize(
    ("draw", "modes", "std"), [(data.ring, data.ring_modes, 0.01), (data.grid, data.grid_modes, 0.05)]
)
def test_mixtures_sit_around_their_modes(draw, modes, std):
    n, centres = 20_000, modes()
    x = draw(n, generator=seeded())
    distance, nearest = torch.cdist(x, centres).min(dim=1)
    share = nearest.bincount(minlength=len(centres)) / n
    p = 1 / len(centres)
    assert (share - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / n)
    # the squared distance over the variance is chi-squared with two degrees: mean 2, variance 4
    assert abs((distance**2).mean().item() / std**2 - 2) < 4 * math.sqrt(4 / n)


def test_modes_are_those_of_pacgan():
    assert torch.allclose(
        data.ring_modes(),
        torch.tensor([[math.cos(a), math.sin(a)] for a in np.arange(8) * np.pi / 4]).float(),
        atol=1e-6,
    )
    expected = {(-4.0 + 2 * i, -4.0 + 2 * j) for i in range(5) for j in range(5)}
    assert set(map(tuple, data.grid_modes().tolist())) == expected


def test_moons_lie_on_two_half_circles():
    x = data.moons(2000, std=0, generator=seeded()).double()
    upper = (x + torch.tensor([0.5, 0.25])).norm(dim=1)
    lower = (x - torch.tensor([0.5, 0.25])).norm(dim=1)
    on_upper, on_lower = (upper - 1).abs() < 1e-5, (lower - 1).abs() < 1e-5
    assert (on_upper | on_lower).all()
    assert 900 < on_upper.sum() < 1100
    assert (x[on_upper & ~on_lower, 1] >= -0.25 - 1e-6).all()
    assert (x[on_lower & ~on_upper, 1] <= 0.25 + 1e-6).all()


@pytest.mark.parametrize("cells", [4, 3])
def test_checkerboard_fills_the_dark_squares_evenly(cells):
    n = 20_000
    x = data.checkerboard(n, cells, generator=seeded())
    square = ((x + 2) / 4 * cells).floor().long()
    assert square.min() == 0
    assert square.max() == cells - 1
    assert (square.sum(dim=1) % 2 == 0).all()
    counts = (square[:, 0] * cells + square[:, 1]).bincount()
    counts = counts[counts > 0]
    p = 1 / ((cells * cells + 1) // 2)
    assert len(counts) == round(1 / p)
    assert (counts / n - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / n)


def test_spiral_winds_outwards():
    x = data.spiral(2000, turns=2, std=0, generator=seeded()).double()
    radius = x.norm(dim=1)
    angle = torch.atan2(x[:, 1], x[:, 0])
    whole_turns = (radius / 2 * 2 * 2 * math.pi - angle) / (2 * math.pi)
    assert (whole_turns - whole_turns.round()).abs().max() < 1e-5
    # uniform in area: the squared radius is uniform on [0, 4]
    assert abs((radius**2).mean().item() - 2) < 4 * math.sqrt(16 / 12 / 2000)


def test_digits():
    x, y = data.digits()
    assert x.shape == (1797, 64)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert (x.min(), x.max()) == (0, 1)
    assert y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# --- Hangul ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hangul() -> data.Hangul:
    return data.hangul()


def test_compose_and_decompose_agree_with_unicode(hangul):
    for index in range(11172):
        syllable = chr(0xAC00 + index)
        letters = tuple(hangul.labels[index].tolist())
        # conjoining letters start at U+1100, U+1161 and, with "no final" one before the first, U+11A7
        conjoining = [chr(start + letter) for start, letter in zip((0x1100, 0x1161, 0x11A7), letters, strict=True)]
        assert unicodedata.normalize("NFD", syllable) == "".join(conjoining).rstrip("\u11a7")
        assert data.decompose(syllable) == letters
        assert data.compose(*letters) == syllable
    assert data.decompose("각") == (0, 0, 1)
    assert data.compose(0, 0) == "가"
    assert data.compose(*hangul.labels[-1]) == "힣"


@pytest.mark.parametrize(
    ("letters", "start", "place"),
    [
        (data.CHOSEONG, 0x1100, "CHOSEONG"),
        (data.JUNGSEONG, 0x1161, "JUNGSEONG"),
        (data.JONGSEONG[1:], 0x11A8, "JONGSEONG"),
    ],
)
def test_letters_are_in_unicode_order(letters, start, place):
    for index, letter in enumerate(letters):
        conjoining = unicodedata.name(chr(start + index))
        assert conjoining.removeprefix(f"HANGUL {place} ") == unicodedata.name(letter).removeprefix("HANGUL LETTER ")
    assert (len(data.CHOSEONG), len(data.JUNGSEONG), len(data.JONGSEONG)) == (19, 21, 28)


def test_decompose_takes_a_syllable_that_is_written_as_its_letters(hangul):
    for letters in hangul.labels[::97].tolist():
        written = unicodedata.normalize("NFD", data.compose(*letters))
        assert len(written) == 2 + (letters[2] > 0)
        assert data.decompose(written) == tuple(letters)


@pytest.mark.parametrize(
    ("wrong", "points"),
    [
        ("", "no character"),
        ("A", "U+0041"),
        ("ㄱ", "U+3131"),
        ("\u1100", "U+1100"),  # looks the same
        ("가나", "U+AC00 U+B098"),
        ("\uabff", "U+ABFF"),
        ("\ud7a4", "U+D7A4"),
    ],
)
def test_decompose_takes_one_syllable(wrong, points):
    with pytest.raises(ValueError, match=f"one modern Hangul syllable.*{re.escape(f'({points})')}"):
        data.decompose(wrong)


@pytest.mark.parametrize("wrong", [3, None, ["가"]])
def test_decompose_takes_a_string(wrong):
    with pytest.raises(TypeError, match="syllable must be a str, not"):
        data.decompose(wrong)


@pytest.mark.parametrize(
    ("letters", "name"),
    [((19, 0, 0), "choseong"), ((-1, 0, 0), "choseong"), ((0, 21, 0), "jungseong"), ((0, 0, 28), "jongseong")],
)
def test_compose_takes_letters_in_range(letters, name):
    with pytest.raises(ValueError, match=name):
        data.compose(*letters)
    with pytest.raises(TypeError, match="jungseong must be an int, not float"):
        data.compose(0, 0.5, 0)


def test_split_keeps_every_pair_of_letters_on_both_sides(hangul):
    both = torch.cat([hangul.train, hangul.held_out])
    assert torch.equal(both.sort().values, torch.arange(11172))
    assert len(hangul.held_out) == 1117  # 10.0 %
    assert not torch.equal(data.hangul(28).held_out, hangul.train)
    assert torch.equal(data.hangul(28).held_out, hangul.held_out)
    for a, b, pairs in ((0, 1, 19 * 21), (0, 2, 19 * 28), (1, 2, 21 * 28)):
        for part in (hangul.train, hangul.held_out):
            assert len({tuple(pair) for pair in hangul.labels[part][:, [a, b]].tolist()}) == pairs


@pytest.mark.parametrize("size", [16, 28])
def test_hangul_images(size):
    x = data.hangul(size).x
    assert x.shape == (11172, size * size)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)
    assert len({row.tobytes() for row in x.numpy()}) == 11172


def test_hangul_images_belong_to_their_labels(hangul):
    ink = hangul.x.sum(dim=1).reshape(19, 21, 28)
    assert (ink[:, :, 1:] > ink[:, :, :1]).float().mean() > 0.95  # a final adds ink
    single, double = ([data.CHOSEONG.index(letter) for letter in letters] for letters in ("ㄱㄷㅂㅅㅈ", "ㄲㄸㅃㅆㅉ"))
    assert (ink[double].mean(dim=(1, 2)) > ink[single].mean(dim=(1, 2)) + 2).all()
    i, eu = hangul.x.reshape(19, 21, 28, 16, 16)[:, [20, 18], 0].mean(dim=0)  # ㅣ stands on the right, ㅡ lies below
    assert i.sum(dim=0).argmax() > 10
    assert eu.sum(dim=1).argmax() > 8


def test_one_box_holds_all_glyphs_and_none_is_scaled_to_it(hangul):
    images = hangul.x.reshape(-1, 16, 16)
    used = images.amax(dim=0)
    assert used[[0, -1]].amax(dim=1).min() > 0
    height = (images.amax(dim=2) > 0).sum(dim=1)
    assert height.max() == 16
    assert height.min() < 12


def test_hangul_of_another_size():
    with pytest.raises(ValueError, match="size must be 16 or 28"):
        data.hangul(32)


@needs_font
@pytest.mark.parametrize(("size", "step"), [(16, 7), (28, 29)])
@pytest.mark.slow
def test_bundled_images_are_what_the_script_renders(size, step):
    from companion.render_hangul import render

    syllables = [chr(code) for code in range(0xAC00, 0xD7A4, step)]
    again = torch.from_numpy(render(FONT, size, syllables)) / 255
    difference = (again - data.hangul(size).x[::step]).abs()
    assert difference.max() <= 2.01 / 15  # another FreeType may move a pixel by a level or two
    assert difference.mean() < 0.002


# The official examples of rule 8 of the Revised Romanization (Ministry of Culture and Tourism, 2000-8).
OFFICIAL = {
    "집": "jib",
    "짚": "jip",
    "밖": "bakk",
    "값": "gabs",
    "붓꽃": "buskkoch",
    "먹는": "meogneun",
    "독립": "doglib",
    "문리": "munli",
    "물엿": "mul-yeos",
    "굳이": "gud-i",
    "좋다": "johda",
    "가곡": "gagog",
    "조랑말": "jolangmal",
}
OTHERS = {
    "한": "han",
    "글": "geul",
    "강": "gang",
    "뷁": "bwelg",
    "햔": "hyan",
    "하 호, 화!": "ha ho, hwa!",
    "": "",
    "a": "a",
}
LETTERS = {"ㅏㅗㅘ": "aowa", "ㄺ": "lg", "ㅇ": "ng"}


@pytest.mark.parametrize(("hangul", "latin"), (OFFICIAL | OTHERS | LETTERS).items())
def test_hangul_in_latin_script(hangul, latin):
    assert data.romanise(hangul) == latin
    if hangul not in LETTERS:
        assert data.romanise(unicodedata.normalize("NFD", hangul)) == latin


def test_each_syllable_has_its_own_name():
    names = [data.romanise(chr(code)) for code in range(0xAC00, 0xD7A4)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+", name) for name in names)


def test_only_text_is_romanised():
    with pytest.raises(TypeError, match="text must be a str, not int"):
        data.romanise(1)


# --- MNIST and Fashion-MNIST -----------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4) * 5
LABELS = np.array([2, 0, 1], np.uint8)
FILES = {
    f"{split}-{what}-ubyte.gz": zipped(idx(array))
    for split in ("train", "t10k")
    for what, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS))
}


class Mirrors(http.server.BaseHTTPRequestHandler):
    """/good serves every file, /wrong other bytes, /cut promises all and dies midway, others are 404."""

    files = FILES

    def do_GET(self):
        mirror, _, file = self.path.strip("/").partition("/")
        self.server.requests.append(self.path)
        if mirror not in ("good", "wrong", "cut") or file not in self.files:
            self.send_error(404)
            return
        content = self.files[file] if mirror != "wrong" else b"something else"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if mirror == "cut" else content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirrors) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def small(server, tmp_path, monkeypatch):
    """A function that makes `mnist` read small files from the named mirrors; returns the cache folder."""
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_SYSTEM", tmp_path / "system")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def use(*mirrors: str) -> Path:
        address = f"http://127.0.0.1:{server.server_port}"
        checksums = {name: (sha256(content), sha256(gzip.decompress(content))) for name, content in FILES.items()}
        archive = replace(data._MNIST, mirrors=tuple(f"{address}/{m}/" for m in mirrors), files=checksums)
        monkeypatch.setattr(data, "_MNIST", archive)
        return tmp_path / "cache" / "mnist"

    return use


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def check_small(x: torch.Tensor, y: torch.Tensor) -> None:
    assert torch.equal(x, torch.from_numpy(IMAGES.reshape(3, 16)).float() / 255)
    assert x.dtype == torch.float32
    assert torch.equal(y, torch.tensor([2, 0, 1]))
    assert y.dtype == torch.int64


@pytest.mark.parametrize("split", ["train", "test"])
def test_download_once_then_use_the_file(small, server, split):
    cache = small("good")
    check_small(*data.mnist(split))
    prefix = {"train": "train", "test": "t10k"}[split]
    assert left_in(cache) == [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"]
    assert len(server.requests) == 2
    check_small(*data.mnist(split))
    assert len(server.requests) == 2


def test_the_cache_may_be_named_from_the_home_folder(small, tmp_path, monkeypatch):
    small("good")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COMPANION_DATA", "~/kept")
    monkeypatch.chdir(tmp_path)
    check_small(*data.mnist("test"))
    small()  # no mirror: the files must be found where they are
    check_small(*data.mnist("test"))
    file = "t10k-labels-idx1-ubyte.gz"
    assert (tmp_path / "kept" / "mnist" / file).is_file()
    assert not (tmp_path / "~").exists()
    assert data.read_idx(f"~/kept/mnist/{file}").tolist() == [2, 0, 1]


@pytest.mark.parametrize("bad", ["missing", "wrong", "cut"])
def test_next_mirror_is_tried(small, server, bad):
    cache = small(bad, "good")
    check_small(*data.mnist())
    assert [path.split("/")[1] for path in server.requests] == [bad, "good"] * 2
    assert left_in(cache) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(("bad", "reason"), [("missing", "404"), ("wrong", "hash"), ("cut", "IncompleteRead")])
def test_bad_download_leaves_nothing_behind(small, bad, reason):
    cache = small(bad)
    with pytest.raises(FileNotFoundError, match=reason):
        data.mnist()
    assert left_in(cache) == []


def test_error_without_network_says_what_to_put_where(small, monkeypatch):
    cache = small()
    dead = ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/")  # nobody listens there
    monkeypatch.setattr(data, "_MNIST", replace(data._MNIST, mirrors=dead))
    with pytest.raises(FileNotFoundError) as error:
        data.mnist("test")
    message = str(error.value)
    for part in (str(cache), "COMPANION_DATA", *FILES, *dead, dead[0] + "t10k-images-idx3-ubyte.gz"):
        assert part in message
    for name, content in FILES.items():  # following the message helps
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(content)
    check_small(*data.mnist("test"))


def test_files_on_disk_are_taken_however_they_were_compressed(small, server, tmp_path):
    small("good")
    for place in ("system", "cache"):
        folder = tmp_path / place / "mnist"
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(gzip.compress(gzip.decompress(content), compresslevel=1, mtime=7))
            assert (folder / name).read_bytes() != content
        check_small(*data.mnist())
        for path in folder.iterdir():
            path.unlink()
    assert server.requests == []


def test_damaged_file_on_disk_is_named_and_replaced(small):
    cache = small("missing")
    cache.mkdir(parents=True)
    name = "train-images-idx3-ubyte.gz"
    (cache / name).write_bytes(FILES[name][:-9])
    with pytest.raises(FileNotFoundError, match=f"{name} is damaged or cut short"):
        data.mnist()
    small("good")
    check_small(*data.mnist())
    assert (cache / name).read_bytes() == FILES[name]


def test_other_content_on_disk_is_not_taken(small):
    cache = small("good")
    cache.mkdir(parents=True)
    (cache / "train-images-idx3-ubyte.gz").write_bytes(zipped(idx(IMAGES[::-1])))
    check_small(*data.mnist())


def test_split_is_named():
    with pytest.raises(ValueError, match='"train" or "test"'):
        data.fashion_mnist("validation")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped(idx(IMAGES))[:40], "damaged or cut short"),
        (zipped(idx(IMAGES))[:-2], "damaged or cut short"),
        (b"<html>not found</html>", "damaged or cut short"),
        (b"", "no idx file"),
        (zipped(idx(IMAGES)[:-1]), "holds 47 bytes where its header promises 48"),
        (zipped(idx(IMAGES) + b"x"), "holds 49 bytes where its header promises 48"),
        (zipped(idx(IMAGES)[:11]), "no idx file"),
        (zipped(b"\0\0\x0d\3" + idx(IMAGES)[4:]), "no idx file"),
        (zipped(b"PK\3\4" + bytes(60)), "no idx file"),
    ],
    ids=range(9),
)
def test_broken_idx_files_are_named(tmp_path, content, reason):
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken.gz.*{reason}"):
        data.read_idx(path)


def test_idx_files_of_any_rank(tmp_path):
    path = tmp_path / "x.gz"
    for array in (LABELS, IMAGES, IMAGES.reshape(3, 2, 2, 4)):
        path.write_bytes(zipped(idx(array)))
        assert np.array_equal(data.read_idx(path), array)
    with pytest.raises(ValueError, match="another checksum"):
        data.read_idx(path, "0" * 64)


#: Debian keeps the published compressed streams but strips name and time from the header: seconds since 1970.
FASHION_TIMES = {"train": 1504176606, "t10k": 1504176627}
#: MD5 sums on the page of the data set, github.com/zalandoresearch/fashion-mnist.
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def published(file: str) -> bytes:
    time = FASHION_TIMES[file.split("-")[0]].to_bytes(4, "little")
    stream = (FASHION / file).read_bytes()[10:]
    return b"\x1f\x8b\x08\x08" + time + b"\x00\x03" + file.removesuffix(".gz").encode() + b"\0" + stream


@needs_fashion
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.slow
def test_fashion_mnist_from_debian(monkeypatch, tmp_path, split):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    x, y = data.fashion_mnist(split)
    n = {"train": 60_000, "test": 10_000}[split]
    assert x.shape == (n, 784)
    assert (x.min(), x.max()) == (0, 1)
    assert y.bincount().tolist() == [n // 10] * 10
    if split == "train":
        # the mean and standard deviation that everyone normalises with
        assert abs(x.mean().item() - 0.2860) < 5e-5
        assert abs(x.double().std().item() - 0.3530) < 5e-5
        assert y[:5].tolist() == [9, 0, 0, 3, 0]
    assert left_in(tmp_path) == []


@needs_fashion
def test_published_fashion_files_have_the_checksums():
    for file, (compressed, content) in data._FASHION_MNIST.files.items():
        stream = published(file)
        assert hashlib.md5(stream).hexdigest() == FASHION_MD5[file]
        assert sha256(stream) == compressed
        assert sha256(gzip.decompress(stream)) == content


@needs_fashion
def test_published_fashion_files_from_a_server(small, server, monkeypatch, capsys):
    small()
    files = {file: published(file) for file in data._FASHION_MNIST.files if file.startswith("t10k")}
    monkeypatch.setattr(Mirrors, "files", files)
    mirrors = (f"http://127.0.0.1:{server.server_port}/good/",)
    monkeypatch.setattr(data, "_FASHION_MNIST", replace(data._FASHION_MNIST, mirrors=mirrors))
    x, _ = data.fashion_mnist("test")
    assert "100%" in capsys.readouterr().err  # the progress bar
    monkeypatch.setattr(data, "_SYSTEM", FASHION.parent)
    monkeypatch.setenv("COMPANION_DATA", "/nowhere")
    assert torch.equal(x, data.fashion_mnist("test")[0])
