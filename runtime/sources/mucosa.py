"""A procedurally drawn stretch of colon wall: folds around a dark lumen, vessels, mucus, and one lesion or none.

Lengths are in *sides*: one side is the shorter side of the camera's frame at zoom 1; (0, 0) is the frame's centre.
All that does not belong to the lesion's own structure is drawn from a random stream that the label does not touch, so
two scenes that differ only in label differ only inside the lesion, and nothing else can give a class away.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """A grid of scene points. ``xs``, ``ys``: float32 [height, width], in sides; ``density``: pixels per side."""

    xs: Floats
    ys: Floats
    density: float

    @classmethod
    def covering(cls, half_width: float, half_height: float, density: float) -> Canvas:
        """The canvas from (−half_width, −half_height) to (half_width, half_height)."""
        xs = np.linspace(-half_width, half_width, round(2 * half_width * density), dtype=np.float32)
        ys = np.linspace(-half_height, half_height, round(2 * half_height * density), dtype=np.float32)
        grid_xs, grid_ys = np.meshgrid(xs, ys)
        return cls(grid_xs, grid_ys, density)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.xs.shape
        return height, width

    def pixels(self, points: NDArray[np.floating]) -> NDArray[np.int32]:
        """Scene points [..., 2] (x, y) as pixel coordinates with four fractional bits, for OpenCV's ``shift=4``."""
        origin = np.array([self.xs[0, 0], self.ys[0, 0]])
        return np.round((np.asarray(points) - origin) * self.density * 16).astype(np.int32)

    def around(self, x: float, y: float, reach: float) -> tuple[slice, slice, Canvas]:
        """Rows, columns and sub-canvas of the square of half-width ``reach`` about (x, y), cut at the borders."""
        column, row = (self.pixels(np.array([x, y])) // 16).tolist()
        pixels, (height, width) = round(reach * self.density), self.shape
        rows = slice(max(0, row - pixels), min(height, row + pixels))
        columns = slice(max(0, column - pixels), min(width, column + pixels))
        return rows, columns, Canvas(self.xs[rows, columns], self.ys[rows, columns], self.density)


@dataclass(frozen=True)
class Site:
    """Where the lesion lies, drawn for every label: centre and mean radius in sides, angle in radians, stretch ≥ 1."""

    x: float
    y: float
    radius: float
    angle: float
    stretch: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, aspect: float) -> Site:
        """A random site that stays in view; ``aspect``: the frame's width in sides."""
        radius = rng.uniform(0.21, 0.26)
        distance, direction = (0.43 - 1.1 * radius) * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        spare = max(0.0, min(aspect, 1.5) - 1) * 0.3 * rng.uniform(-1, 1)
        return cls(
            distance * np.cos(direction) + spare,
            distance * np.sin(direction),
            radius,
            rng.uniform(0, 2 * np.pi),
            rng.uniform(1.0, 1.15),
        )

    def local(self, canvas: Canvas) -> tuple[Floats, Floats]:
        """Coordinates along and across the lesion; its outline is near the unit circle."""
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        xs, ys = canvas.xs - np.float32(self.x), canvas.ys - np.float32(self.y)
        along = (xs * cosine + ys * sine) / np.float32(self.radius * self.stretch**0.5)
        across = (ys * cosine - xs * sine) / np.float32(self.radius / self.stretch**0.5)
        return along, across


@dataclass(frozen=True)
class Surface:
    """What light falls on. ``albedo``: float32 [h, w, 3] BGR in 0…1; ``relief``: height in sides, float32 [h, w]."""

    albedo: Floats
    relief: Floats


@dataclass(frozen=True)
class Light:
    """A lamp beside the camera; (x, y): its offset as a slope."""

    x: float
    y: float

    def slopes(self, canvas: Canvas) -> tuple[Floats, Floats]:
        """Slope of the direction towards the lamp at each point."""
        return np.float32(self.x) - np.float32(0.5) * canvas.xs, np.float32(self.y) - np.float32(0.5) * canvas.ys

    def shading(self, relief: Floats, canvas: Canvas) -> Floats:
        """Lambert's cosine law on a height field, with some scattered light; about 1 where the surface faces it."""
        down, right = gradient(relief, canvas.density)
        to_x, to_y = self.slopes(canvas)
        cosine = (1 - right * to_x - down * to_y) / np.sqrt((1 + right**2 + down**2) * (1 + to_x**2 + to_y**2))
        return np.float32(0.2) + np.float32(0.85) * np.maximum(cosine, 0)


def gradient(relief: Floats, density: float) -> tuple[Floats, Floats]:
    """Slopes of a height field down and to the right, without unit."""
    scale = density / 8
    down = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=scale)
    right = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=scale)
    return np.asarray(down, np.float32), np.asarray(right, np.float32)


def smooth_noise(rng: np.random.Generator, canvas: Canvas, cell: float) -> Floats:
    """Noise of mean 0 and deviation about 1 that varies over ``cell`` sides; its draws do not depend on the density."""
    height, width = canvas.shape
    lattice_height = int(np.ceil(height / canvas.density / cell)) + 1
    lattice_width = int(np.ceil(width / canvas.density / cell)) + 1
    lattice = rng.standard_normal((lattice_height, lattice_width)).astype(np.float32)
    size = (round(lattice_width * cell * canvas.density), round(lattice_height * cell * canvas.density))
    return np.asarray(cv2.resize(lattice, size, interpolation=cv2.INTER_CUBIC)[:height, :width] * 1.3, np.float32)


def smoothstep(low: float, high: float, values: Floats) -> Floats:
    """0 at ``low``, 1 at ``high`` (which may be the smaller one), smooth between."""
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def grow_vessels(
    rng: np.random.Generator, canvas: Canvas, start: tuple[float, float], heading: float, width: float, length: float
) -> list[tuple[NDArray[np.int32], int]]:
    """A winding, branching vessel as (pixel polyline for ``shift=4``, thickness in pixels) pairs; lengths in sides."""
    branches = [(start, heading, width, length)]
    lines: list[tuple[NDArray[np.int32], int]] = []
    while branches and len(lines) < 40:
        (x, y), heading, width, length = branches.pop()
        steps = max(2, int(length / 0.012))
        headings = heading + np.cumsum(rng.normal(0, 0.22, steps))
        path = np.stack([x + 0.012 * np.cumsum(np.cos(headings)), y + 0.012 * np.cumsum(np.sin(headings))], axis=1)
        lines.append((canvas.pixels(path), max(1, round(width * canvas.density))))
        if width > 0.0022:
            for at in rng.integers(1, steps, rng.integers(1, 4)):
                turn = rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
                branch = (float(path[at, 0]), float(path[at, 1]))
                branches.append((branch, headings[at] + turn, width * rng.uniform(0.45, 0.75), length * 0.6))
    return lines


def draw_lines(canvas: Canvas, lines: list[tuple[NDArray[np.int32], int]], softness: float) -> Floats:
    """Polylines as a mask in 0…1, blurred by ``softness`` sides."""
    mask = np.zeros(canvas.shape, np.uint8)
    for line, thickness in lines:
        cv2.polylines(mask, [line.reshape(-1, 1, 2)], False, 255, thickness, cv2.LINE_AA, 4)
    blurred = cv2.GaussianBlur(mask, (0, 0), max(0.3, softness * canvas.density))
    return blurred.astype(np.float32) * np.float32(1 / 255)


def wall(rng: np.random.Generator, canvas: Canvas, site: Site) -> tuple[Surface, Floats]:
    """The healthy wall: its surface, and the share of light that reaches each point (dark lumen, folds), [h, w]."""
    bumps = 0.010 * smooth_noise(rng, canvas, 0.22) + 0.0022 * smooth_noise(rng, canvas, 0.06)
    red = rng.uniform(0.74, 0.9)
    green = red * rng.uniform(0.5, 0.66)
    tissue = np.array([green * rng.uniform(0.76, 0.98), green, red], np.float32)
    mottle = smooth_noise(rng, canvas, 0.13)[..., None] * rng.uniform(0.02, 0.05)
    albedo = tissue * (1 + mottle * np.array([1.0, 1.0, 0.4], np.float32))
    albedo = albedo * _vessel_tint(rng, canvas)
    albedo = albedo * _site_tint(rng, canvas, site)
    fleck = smoothstep(1.9, 2.6, smooth_noise(rng, canvas, 0.05) + 0.4 * smooth_noise(rng, canvas, 0.015))
    fleck = (fleck * np.float32(rng.uniform(0, 0.4)))[..., None]
    albedo = albedo * (1 - fleck) + fleck * np.array([0.55, 0.8, 0.85], np.float32)
    light = _tunnel(rng, canvas, site)
    return Surface(np.asarray(albedo, np.float32), np.asarray(bumps, np.float32)), light


def _vessel_tint(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Two layers of vessels as a factor on the albedo, [h, w, 3]: deep ones bluish and soft, others red and sharp."""
    half_width, half_height = -float(canvas.xs[0, 0]), -float(canvas.ys[0, 0])
    tint = np.ones((*canvas.shape, 3), np.float32)
    for trees, width, softness, absorbed in (
        (rng.integers(2, 5), 0.011, 0.006, (0.30, 0.38, 0.30)),
        (rng.integers(3, 8), 0.0055, 0.0015, (0.60, 0.66, 0.26)),
    ):
        lines = []
        for _ in range(trees):
            start = (rng.uniform(-half_width, half_width), rng.uniform(-half_height, half_height))
            heading, thickness, length = rng.uniform(0, 2 * np.pi), width * rng.uniform(0.6, 1.1), rng.uniform(0.3, 0.8)
            lines += grow_vessels(rng, canvas, start, heading, thickness, length)
        strength = rng.uniform(0.3, 0.7)
        tint *= 1 - draw_lines(canvas, lines, softness)[..., None] * np.float32(strength) * np.array(absorbed, "f4")
    return tint


def _site_tint(rng: np.random.Generator, canvas: Canvas, site: Site) -> Floats:
    """A faint blush or pallor about the site, whatever the label: so its mean colour says nothing."""
    along, across = site.local(canvas)
    blush = np.exp(-(along**2 + across**2) / np.float32(rng.uniform(0.8, 1.6)))[..., None]
    shift = rng.normal(0, 0.07) + rng.normal(0, [0.06, 0.06, 0.03])
    return np.asarray(1 + blush * shift.astype(np.float32), np.float32)


def _tunnel(rng: np.random.Generator, canvas: Canvas, site: Site) -> Floats:
    """Light along a tube: dark in the lumen's depth; folds around it, lit on the near face, in shadow beyond the crest.

    The lumen lies where the site is not, often outside the view.
    """
    away = np.arctan2(-site.y, -site.x) + rng.normal(0, 0.7)
    apart = site.radius + rng.uniform(0.2, 0.5)
    x, y = site.x + apart * np.cos(away), site.y + apart * np.sin(away)
    xs = canvas.xs - np.float32(x) + np.float32(0.03) * smooth_noise(rng, canvas, 0.25)
    ys = canvas.ys - np.float32(y) + np.float32(0.03) * smooth_noise(rng, canvas, 0.25)
    angles = cv2.phase(xs, ys)
    corners = 1 + np.float32(rng.uniform(0, 0.14)) * np.cos(3 * angles + np.float32(rng.uniform(0, 6.3)))
    radii = np.sqrt(xs**2 + ys**2) * corners + np.float32(1e-3)
    depth = rng.uniform(0.07, 0.15)
    light = radii**2 / (radii**2 + np.float32(depth**2))
    turns = np.log(radii / np.float32(depth)) * np.float32(rng.uniform(1.3, 2.3)) + np.float32(rng.uniform())
    turns += np.float32(0.12) * smooth_noise(rng, canvas, 0.3)
    phase = turns - np.floor(turns)
    crest = np.exp(-phase / np.float32(0.22)) * smoothstep(0, 0.03, phase)
    shadow = smoothstep(0.25, 0.985, phase) ** 2 * smoothstep(1.0, 0.985, phase)
    partial = smoothstep(-0.9, 0.7, smooth_noise(rng, canvas, 0.45)) * np.float32(rng.uniform(0.45, 1))
    partial *= smoothstep(0.8, 2.0, radii / np.float32(depth))
    return np.asarray(light * (1 + partial * (0.18 * crest - 0.28 * shadow)), np.float32)
