"""How a figure reaches the reader's screen: sharp at any density, its panels apart so that a phone can stack them.

A figure of lines and text becomes SVG. It is written for the strictest reader: GitHub and nbviewer take `<use>` and CSS
out of a notebook's SVG, so here every shape is a path in its place with its own attributes. A figure that holds images,
or more lines than a file should, becomes a PNG of two pixels a CSS pixel.
"""

from __future__ import annotations

import base64
import io
import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby, pairwise
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

#: CSS pixels an inch of a figure takes.
DPI = 110
#: Longest SVG, in characters; what is longer becomes a PNG.
LONGEST = 60_000
#: Coordinates in an SVG are whole numbers of this many to a CSS pixel.
UNITS = 20


def use_screen() -> None:
    """Let IPython, if this runs in it, show figures as this module writes them."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Figure, _show)


def _show(figure: Figure) -> None:
    from IPython.display import display

    for data, metadata in outputs(figure):
        display(data, metadata=metadata, raw=True)


def outputs(figure: Figure) -> list[tuple[dict[str, str], dict[str, dict[str, int]]]]:
    """The outputs that show a figure, one a panel: data by MIME type, and the width of a PNG in CSS pixels.

    A PNG at single density goes with each SVG, for readers that show no SVG, such as JupyterLab before a notebook is
    trusted.
    """
    found = []
    with _laid_out(figure):
        parts = _parts(figure)
        for number, (box, shown) in enumerate(parts, start=1):
            name = repr(figure) if len(parts) == 1 else f"<Figure: panel {number} of {len(parts)}>"
            with _only(figure, shown):
                vector = _svg(figure, box)
                if vector is None:
                    image = _png(figure, box, 2 * DPI)
                    width = int.from_bytes(image[16:20], "big") // 2
                    metadata = {"image/png": {"width": width}}
                else:
                    image, metadata = _png(figure, box, DPI), {}
            data = {"image/svg+xml": vector} if vector else {}
            data |= {"image/png": base64.b64encode(image).decode(), "text/plain": name}
            found.append((data, metadata))
    return found


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Lay the figure out once, so that all its parts, in every format, agree."""
    engine = figure.get_layout_engine()
    figure.draw_without_rendering()
    with plt.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # with these settings none at all: each format need draw but once
        try:
            yield
        finally:
            figure.set_layout_engine(engine)


@contextmanager
def _only(figure: Figure, shown: list[Axes]) -> Iterator[None]:
    hidden = [axis for axis in figure.axes if axis.get_visible() and axis not in shown]
    for axis in hidden:
        axis.set_visible(False)
    try:
        yield
    finally:
        for axis in hidden:
            axis.set_visible(True)


# --- panels ----------------------------------------------------------------------------------------------------------


def _parts(figure: Figure) -> list[tuple[Bbox, list[Axes]]]:
    """The panels, each a box in inches and the axes within: the columns of a wide figure of one row, else the whole."""
    whole = figure.get_tightbbox().padded(0.1)
    axes = [axis for axis in figure.axes if axis.get_visible()]
    columns, plain = _bands(axes, 0), not (figure.texts or figure.legends or figure.images)
    if not plain or figure.get_figwidth() < 5 or len(_bands(axes, 1)) != 1 or not 2 <= len(columns) <= 5:
        return [(whole, axes)]
    extents = [Bbox.union([axis.get_tightbbox() for axis in column]) for column in columns]
    inner = [(left.x1 + right.x0) / 2 / figure.dpi for left, right in pairwise(extents)]
    edges = pairwise([whole.x0, *inner, whole.x1])
    return [(Bbox([[x0, whole.y0], [x1, whole.y1]]), column) for (x0, x1), column in zip(edges, columns, strict=True)]


def _bands(axes: list[Axes], side: int) -> list[list[Axes]]:
    """Axes that share a column (side 0, from the left) or a row (side 1, from below); a colour bar joins its axis."""
    bands: list[list[Axes]] = []
    end = -math.inf
    for axis in sorted(axes, key=lambda axis: axis.get_position().min[side]):
        place = axis.get_position()
        if bands and (place.min[side] < end - 1e-6 or axis.get_label() == "<colorbar>"):
            bands[-1].append(axis)
        else:
            bands.append([axis])
        end = max(end, place.max[side])
    return bands


# --- formats ---------------------------------------------------------------------------------------------------------


def _png(figure: Figure, box: Bbox, dpi: int) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, bbox_inches=box, metadata={"Software": None})
    return file.getvalue()


def _svg(figure: Figure, box: Bbox) -> str | None:
    """The figure within the box as an SVG, or None if it holds an image or would be too long."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": "companion"}):
        figure.savefig(file, format="svg", bbox_inches=box, metadata=nothing)
    text = file.getvalue()
    if "<image" in text:
        return None
    try:
        text = plain_svg(text)
    except _NotPlain:
        return None
    return text if len(text) <= LONGEST else None


class _NotPlain(Exception):
    """An SVG that holds more than paths."""


class _Path(NamedTuple):
    attributes: tuple[tuple[str, str], ...]
    data: str
    joins: bool  # may be drawn in one stroke with neighbours of the same attributes


def plain_svg(text: str, scale: float = DPI / 72) -> str:
    """What matplotlib wrote as an SVG, with paths alone, short and the same on every machine, `scale` times larger."""
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    ids = {element.get("id"): element for element in root.iter() if element.get("id")}
    _, _, width, height = (float(number) * scale for number in root.get("viewBox").split())
    clips: dict[str, str] = {}
    paths = list(_paths(root, np.diag([scale * UNITS, scale * UNITS, 1.0]), {}, ids, clips, False))
    body = "".join(_elements(paths))
    used = "".join(
        f'<clipPath id="{name}"><path d="{d}"/></clipPath>' for name, d in clips.items() if f"#{name})" in body
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}" height="{height:.1f}" '
        f'viewBox="0 0 {width * UNITS:.0f} {height * UNITS:.0f}" stroke-linejoin="round">'
        f"{f'<defs>{used}</defs>' if used else ''}{body}</svg>"
    )


def _paths(
    element: ElementTree.Element,
    matrix: np.ndarray,
    style: dict[str, str],
    ids: dict[str, ElementTree.Element],
    clips: dict[str, str],
    used: bool,
) -> Iterator[_Path]:
    tag = element.tag
    if tag in ("defs", "clipPath", "style", "metadata", "title"):
        return
    if tag not in ("svg", "g", "path", "use"):
        raise _NotPlain(tag)
    own = dict(re.findall(r"([\w-]+):\s*([^;]+)", element.get("style", "")))
    own |= {key: element.get(key) for key in ("clip-path",) if element.get(key)}
    if "opacity" in style and "opacity" in own:
        own["opacity"] = f"{float(own['opacity']) * float(style['opacity']):.4g}"
    style = style | own
    matrix = matrix @ _matrix(element.get("transform", ""))
    if tag == "use":
        matrix = matrix @ _matrix(f"translate({element.get('x', 0)} {element.get('y', 0)})")
        target = ids[element.get("{http://www.w3.org/1999/xlink}href").removeprefix("#")]
        yield from _paths(target, matrix, style, ids, clips, True)
    elif tag == "path":
        segments = _segments(element.get("d", ""), matrix)
        if segments:
            data = _circle(segments) if used else ""
            yield _Path(_attributes(style, matrix, segments, ids, clips), data or _data(segments), _joins(style, used))
    for child in element:
        yield from _paths(child, matrix, style, ids, clips, used)


def _matrix(text: str) -> np.ndarray:
    matrix = np.eye(3)
    for name, inner in re.findall(r"(\w+)\(([^)]*)\)", text):
        v = [float(number) for number in re.split(r"[\s,]+", inner.strip())]
        step = np.eye(3)
        if name == "translate":
            step[:2, 2] = v[0], v[1] if len(v) > 1 else 0
        elif name == "scale":
            step[0, 0], step[1, 1] = v[0], v[-1]
        elif name == "rotate" and len(v) == 1:
            cos, sin = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
            step[:2, :2] = [[cos, -sin], [sin, cos]]
        elif name == "matrix":
            step[:2] = np.reshape(v, (3, 2)).T
        else:
            raise _NotPlain(name)
        matrix = matrix @ step
    return matrix


def _segments(d: str, matrix: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The commands of a path with their points, moved into place and rounded."""
    segments = []
    for command, inner in re.findall(r"([MLQCzZ])([^MLQCzZ]*)", d):
        points = np.array(inner.split(), dtype=float).reshape(-1, 2)
        segments.append((command.lower(), np.rint(points @ matrix[:2, :2].T + matrix[:2, 2]).astype(int)))
    return segments


def _data(segments: list[tuple[str, np.ndarray]]) -> str:
    """Path data: an absolute start, then steps, so that the numbers are short."""
    text, last, here, start = [], "", np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for index, (command, points) in enumerate(segments):
        if command == "z":
            text.append("z")
            last, here = "", start
            continue
        if command == "m":
            start = here = points[-1]
            text.append(f"M{_numbers(here)}")
            last = ""
            continue
        steps = (points - here).ravel()
        dot = index == 1 and segments[0][0] == "m" and len(segments) == 2  # a line of no length is a dot
        if command == "l" and not steps.any() and not dot:
            continue
        numbers = _numbers(steps)
        if command != last:
            numbers = command + numbers
        elif numbers[0] != "-":
            numbers = f" {numbers}"
        text.append(numbers)
        last, here = command, points[-1]
    return "".join(text)


def _circle(segments: list[tuple[str, np.ndarray]]) -> str:
    """Two arcs, if the path is a round marker, which matplotlib draws as eight curves."""
    if "".join(command for command, _ in segments) != "mccccccccz":
        return ""
    points = np.array([points[-1] for _, points in segments[1:-1]])
    centre = np.rint(points.mean(axis=0)).astype(int)
    distances = np.hypot(*(points - centre).T)
    radius = round(distances.mean())
    if abs(distances - radius).max() > 1.5:
        return ""
    (x, y), turn = centre, f"a{radius} {radius} 0 1 1"
    return f"M{_numbers((x - radius, y))}{turn} {2 * radius} 0{turn}{-2 * radius} 0z"


def _numbers(values: Iterable[int]) -> str:
    return " ".join(str(value) for value in values).replace(" -", "-")


def _attributes(
    style: dict[str, str],
    matrix: np.ndarray,
    segments: list[tuple[str, np.ndarray]],
    ids: dict[str, ElementTree.Element],
    clips: dict[str, str],
) -> tuple[tuple[str, str], ...]:
    found = {}
    size = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    fill, stroke = style.get("fill", "#000000"), style.get("stroke", "none")
    if "url" in fill + stroke:
        raise _NotPlain("pattern")
    if fill != "#000000":
        found["fill"] = fill
    if stroke != "none":
        found["stroke"] = stroke
        found["stroke-width"] = f"{float(style.get('stroke-width', 1)) * size:.0f}"
        if style.get("stroke-dasharray", "none") != "none":
            dashes = re.split(r"[\s,]+", style["stroke-dasharray"].strip())
            found["stroke-dasharray"] = " ".join(f"{float(dash) * size:.0f}" for dash in dashes)
            if float(style.get("stroke-dashoffset", 0)):
                found["stroke-dashoffset"] = f"{float(style['stroke-dashoffset']) * size:.0f}"
        for key, usual in (("stroke-linejoin", "round"), ("stroke-linecap", "butt")):
            if style.get(key, usual) != usual:
                found[key] = style[key]
    for key in ("fill-opacity", "stroke-opacity", "opacity"):
        if float(style.get(key, 1)) < 1:
            found[key] = f"{float(style[key]):.3g}"
    if "opacity" in found and "none" in (fill, stroke):  # the two that a group hands down
        found["stroke-opacity" if fill == "none" else "fill-opacity"] = found.pop("opacity")
    clip = style.get("clip-path")
    if clip:
        points = np.concatenate([points for _, points in segments if len(points)])
        edge = 0 if stroke == "none" else float(found["stroke-width"]) / 2
        name, corners = _clip(ids[clip[5:-1]], clips, DPI / 72 * UNITS)
        inside = corners is not None and (points.min(0) - edge >= corners[0]).all()
        if not (inside and (points.max(0) + edge <= corners[1]).all()):
            found["clip-path"] = f"url(#{name})"
    return tuple(found.items())


def _clip(element: ElementTree.Element, clips: dict[str, str], scale: float) -> tuple[str, np.ndarray | None]:
    """The name of a clipping path, and the corners if it is a rectangle."""
    (shape,) = element
    corners = None
    if shape.tag == "rect":
        x, y, width, height = (float(shape.get(key)) * scale for key in ("x", "y", "width", "height"))
        corners = np.rint([[x, y], [x + width, y + height]]).astype(int)
        (left, top), (right, bottom) = corners
        d = f"M{left} {top}H{right}V{bottom}H{left}z"
    elif shape.tag == "path":
        d = _data(_segments(shape.get("d"), np.diag([scale, scale, 1])))
    else:
        raise _NotPlain(shape.tag)
    name = f"c{sha256(d.encode()).hexdigest()[:8]}"  # alike only if they are: a page may hold several figures
    clips[name] = d
    return name, corners


def _joins(style: dict[str, str], used: bool) -> bool:
    opaque = not any(float(style.get(key, 1)) < 1 for key in ("opacity", "fill-opacity", "stroke-opacity"))
    fill, stroke = style.get("fill", "#000000"), style.get("stroke", "none")
    return opaque and (fill == "none" or (used and stroke in ("none", fill)))


def _elements(paths: list[_Path]) -> Iterator[str]:
    """The paths as text; neighbours that look the same share their attributes."""
    for attributes, run in groupby(paths, key=lambda path: path.attributes):
        drawn: list[str] = []
        joins = False
        for path in run:
            if joins and path.joins:
                drawn[-1] += path.data
            else:
                drawn.append(path.data)
            joins = path.joins
        single = len(drawn) == 1
        own = "".join(f' {key}="{value}"' for key, value in attributes if single or key in ("opacity", "clip-path"))
        shared = "".join(f' {key}="{value}"' for key, value in attributes if f' {key}="' not in own)
        body = "".join(f'<path{own} d="{d}"/>' for d in drawn)
        yield f"<g{shared}>{body}</g>" if shared else body
