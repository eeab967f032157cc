"""Pictures of areas, lines and words, one above the other in a file: SVG, or PNG at twice the size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 900, 260
_FONT_SIZE, _SCALE = 12, 2

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through some points, or the area that they enclose; y grows downwards."""

    kind: Literal["line", "area"]
    points: Sequence[Point]
    colour: str


@dataclass(frozen=True, slots=True)
class Words:
    """A text that begins at a point of its baseline."""

    text: str
    at: Point
    colour: str = "#000000"


Shape: TypeAlias = Stroke | Words
Picture: TypeAlias = Sequence[Shape]
"""What is drawn, in this order, on WIDTH x HEIGHT."""


def write(path: Path, pictures: Sequence[Picture]) -> None:
    """Write the pictures as the file's suffix says: `.png`, else SVG."""
    if path.suffix.lower() == ".png":
        _png(pictures).save(path, format="PNG", optimize=True)
    else:
        path.write_text(_svg(pictures), encoding="utf-8")


def _stacked(pictures: Sequence[Picture]) -> Iterator[Shape]:
    for number, picture in enumerate(pictures):
        down = number * HEIGHT
        for shape in picture:
            if isinstance(shape, Words):
                yield replace(shape, at=(shape.at[0], shape.at[1] + down))
            else:
                yield replace(shape, points=[(x, y + down) for x, y in shape.points])


def _svg(pictures: Sequence[Picture]) -> str:
    height = HEIGHT * len(pictures)
    style = f'font-family="sans-serif" font-size="{_FONT_SIZE}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {style}>'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *map(_element, _stacked(pictures)), "</svg>", ""])


def _element(shape: Shape) -> str:
    if isinstance(shape, Words):
        x, y = shape.at
        return f'<text x="{x:.0f}" y="{y:.0f}" fill="{shape.colour}">{escape(shape.text)}</text>'
    points = " ".join(f"{x:.0f},{y:.1f}" for x, y in shape.points)
    if shape.kind == "area":
        return f'<polygon fill="{shape.colour}" points="{points}"/>'
    return f'<polyline fill="none" stroke="{shape.colour}" stroke-width="1.5" points="{points}"/>'


def _png(pictures: Sequence[Picture]) -> Image.Image:
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * len(pictures) * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE * _SCALE)
    for shape in _stacked(pictures):
        if isinstance(shape, Words):
            at = (shape.at[0] * _SCALE, shape.at[1] * _SCALE)
            draw.text(at, shape.text, shape.colour, font, anchor="ls")
            continue
        points = [(x * _SCALE, y * _SCALE) for x, y in shape.points]
        if shape.kind == "area":
            draw.polygon(points, shape.colour)
        else:
            draw.line(points, shape.colour, width=3, joint="curve")
    return image
