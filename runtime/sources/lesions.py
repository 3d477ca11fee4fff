"""The lesions of the synthetic endoscope: one function a class, told apart by local structure alone.

Each takes the healthy surface about the site and gives the diseased one. What differs in mean colour or brightness is
taken out again by the caller (:func:`lesion_detail`), so no class is darker, redder or paler than another.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.sources.mucosa import (
    Canvas,
    Floats,
    Light,
    Site,
    Surface,
    draw_lines,
    grow_vessels,
    smooth_noise,
    smoothstep,
)

Painter = Callable[[np.random.Generator, Canvas, Site, Surface, Floats], Surface]
_REACH = 2.6  # of the radius; the removed mean fades out within it


def lesion_detail(
    label: str, rng: np.random.Generator, canvas: Canvas, site: Site, surface: Surface, light: Light
) -> tuple[slice, slice, Floats] | None:
    """What the lesion of class ``label`` adds to the picture, as rows, columns and float32 BGR [h, w, 3].

    The local mean (a Gaussian of half the lesion's radius) is removed. None for the class without a lesion.
    """
    painter = PAINTERS[label]
    if painter is None:
        return None
    rows, columns, patch = canvas.around(site.x, site.y, _REACH * site.radius)
    healthy = Surface(surface.albedo[rows, columns], surface.relief[rows, columns])
    along, across = site.local(patch)
    rho = np.sqrt(along**2 + across**2)
    diseased = painter(rng, patch, site, healthy, np.asarray(rho, np.float32))
    change = diseased.albedo * light.shading(diseased.relief, patch)[..., None]
    change -= healthy.albedo * light.shading(healthy.relief, patch)[..., None]
    return rows, columns, change - _blurred(change, 0.5 * site.radius * canvas.density)


def _blurred(image: Floats, sigma: float) -> Floats:
    """A wide Gaussian blur, taken at a quarter of the size; nothing lies beyond the border."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _tinted(albedo: Floats, share: Floats, colour: tuple[float, float, float]) -> Floats:
    """Albedo multiplied by the BGR factors ``colour`` where ``share`` is 1."""
    return np.asarray(albedo * (1 + share[..., None] * (np.array(colour, np.float32) - 1)), np.float32)


def _polyp(rng: np.random.Generator, canvas: Canvas, site: Site, wall: Surface, rho: Floats) -> Surface:
    """A sessile dome: bright towards the lamp, shaded away from it, with a shadow at its foot."""
    height = site.radius * rng.uniform(0.75, 1.0)
    rho = rho + np.float32(0.05) * smooth_noise(rng, canvas, 0.2)
    dome = np.float32(height) * (1 - np.minimum(rho, 1) ** 2) ** np.float32(1.2)
    lobes = np.float32(0.005) * smooth_noise(rng, canvas, 0.06) * smoothstep(1.0, 0.6, rho)
    top = smoothstep(1.0, 0.1, rho)
    foot = np.exp(-(((rho - 1.04) / 0.12) ** 2)) * smoothstep(-2.0, 0.8, _facing(rng, canvas, site))
    albedo = _tinted(_tinted(wall.albedo, foot, (0.5, 0.46, 0.62)), top, (1.45, 1.4, 1.2))
    return Surface(albedo, wall.relief + dome + lobes)


def _facing(rng: np.random.Generator, canvas: Canvas, site: Site) -> Floats:
    """−1 to about 1 across the site in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    xs, ys = canvas.xs - np.float32(site.x), canvas.ys - np.float32(site.y)
    return np.asarray((xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))) / np.float32(site.radius))


def _ulcer(rng: np.random.Generator, canvas: Canvas, site: Site, wall: Surface, rho: Floats) -> Surface:
    """A crater: pale fibrin with a torn edge, in a raised, inflamed rim."""
    torn = rho + np.float32(0.06) * smooth_noise(rng, canvas, 0.06)
    torn += np.float32(0.03) * smooth_noise(rng, canvas, 0.015)
    edge = rng.uniform(0.5, 0.65)
    base = smoothstep(edge + 0.07, edge - 0.07, torn)
    rim = np.exp(-(((torn - edge - 0.2) / 0.13) ** 2))
    albedo = _tinted(wall.albedo, rim, (0.62, 0.6, 0.86))
    fibrin = (0.85 + 0.07 * smooth_noise(rng, canvas, 0.025))[..., None] * np.array([0.62, 0.78, 0.86], np.float32)
    share = (base * np.float32(rng.uniform(0.6, 0.9)))[..., None]
    relief = wall.relief + np.float32(site.radius) * (np.float32(0.14) * rim - np.float32(0.12) * base)
    return Surface(np.asarray(albedo * (1 - share) + fibrin * share, np.float32), np.asarray(relief, np.float32))


def _pit_pattern(rng: np.random.Generator, canvas: Canvas, site: Site, wall: Surface, rho: Floats) -> Surface:
    """A flat patch of round pits on a jittered hexagonal grid."""
    spacing = rng.uniform(0.088, 0.104)
    count = int(1.4 * site.radius / spacing) + 2
    rows, columns = np.mgrid[-count : count + 1, -count : count + 1]
    grid = np.stack([columns + 0.5 * (rows % 2), rows * 0.866], axis=-1).reshape(-1, 2) * spacing
    grid = grid + rng.normal(0, 0.09 * spacing, grid.shape)
    turn = np.array([[np.cos(site.angle), -np.sin(site.angle)], [np.sin(site.angle), np.cos(site.angle)]])
    radii = np.round(spacing * rng.uniform(0.24, 0.34, len(grid)) * canvas.density * 16).astype(int)
    mask = np.zeros(canvas.shape, np.uint8)
    for (x, y), radius in zip(canvas.pixels(grid @ turn.T + [site.x, site.y]).tolist(), radii.tolist(), strict=True):
        cv2.circle(mask, (x, y), radius, 255, cv2.FILLED, cv2.LINE_AA, 4)
    pits = cv2.GaussianBlur(mask, (0, 0), 0.005 * canvas.density).astype(np.float32) * np.float32(1 / 255)
    return _engraved(rng, wall, pits * smoothstep(1.0, 0.85, rho))


def _adenoma(rng: np.random.Generator, canvas: Canvas, site: Site, wall: Surface, rho: Floats) -> Surface:
    """A flat patch of winding grooves (gyrus pattern): a few plane waves of one length and similar direction."""
    wavenumber = 2 * np.pi / rng.uniform(0.080, 0.096)
    waves = np.zeros(canvas.shape, np.float32)
    for direction in site.angle + rng.normal(0, 0.22, 4):
        x, y, phase = wavenumber * np.cos(direction), wavenumber * np.sin(direction), rng.uniform(0, 2 * np.pi)
        waves += np.cos(np.float32(x) * canvas.xs + np.float32(y) * canvas.ys + np.float32(phase))
    waves += np.float32(0.3) * smooth_noise(rng, canvas, 0.03)
    grooves = smoothstep(-0.5, 0.6, waves)
    return _engraved(rng, wall, np.asarray(grooves * smoothstep(1.0, 0.85, rho), np.float32))


def _engraved(rng: np.random.Generator, wall: Surface, marks: Floats) -> Surface:
    """Stained and sunk where ``marks`` is 1."""
    return Surface(
        _tinted(wall.albedo, marks, _stain(rng)), np.asarray(wall.relief - np.float32(0.003) * marks, np.float32)
    )


def _stain(rng: np.random.Generator) -> tuple[float, float, float]:
    """BGR factors of a mark, from one distribution for every class that has marks, so that colour names none.

    Between blood, brown and the blue of an endoscopist's dye.
    """
    shares = rng.dirichlet((0.5, 0.5, 0.5))
    full = shares @ np.array([(0.22, 0.18, 0.80), (0.36, 0.36, 0.42), (0.78, 0.40, 0.34)])
    blue, green, red = 1 - rng.uniform(0.75, 1.0) * (1 - full)
    return float(blue), float(green), float(red)


def _angiectasia(rng: np.random.Generator, canvas: Canvas, site: Site, wall: Surface, rho: Floats) -> Surface:
    """A tangle of small vessels that spring from one centre."""
    lines: list[tuple[NDArray[np.int32], int]] = []
    arms = rng.integers(8, 13)
    for arm in range(arms):
        heading = site.angle + 2 * np.pi * (arm + rng.uniform(-0.3, 0.3)) / arms
        offset = 0.12 * site.radius
        start = (site.x + offset * np.cos(heading), site.y + offset * np.sin(heading))
        length = site.radius * rng.uniform(0.7, 1.1)
        lines += grow_vessels(rng, canvas, start, heading, rng.uniform(0.011, 0.015), length)
    tangle = draw_lines(canvas, lines, 0.002) * smoothstep(1.15, 0.8, rho)
    knot = np.exp(-((rho / 0.2) ** 2))
    share = np.asarray(np.minimum(tangle + np.float32(0.6) * knot, 1), np.float32)
    return Surface(_tinted(wall.albedo, share, _stain(rng)), wall.relief)


PAINTERS: dict[str, Painter | None] = {
    "normal": None,
    "polyp": _polyp,
    "ulcer": _ulcer,
    "pit-pattern": _pit_pattern,
    "adenoma": _adenoma,
    "angiectasia": _angiectasia,
}
