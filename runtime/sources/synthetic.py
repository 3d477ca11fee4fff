"""A synthetic endoscope: a procedurally drawn scene filmed by a moving camera, for demos, tests and real-time checks.

The classes look like findings in the colon but are drawn, not recorded: nothing learned here says anything about
patients. They differ in local structure only; see :mod:`gensoup.runtime.sources.mucosa` for how that is kept.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import UsageError
from gensoup.runtime.sources.lesions import PAINTERS, lesion_detail
from gensoup.runtime.sources.mucosa import Bytes, Canvas, Floats, Light, Site, gradient, smooth_noise, smoothstep, wall

LABELS = tuple(PAINTERS)
MIN_SIDE = 32
_WORKING_SIDE = 540  # larger frames are drawn with this shorter side and enlarged: lenses and folds are soft anyway
_PAN = 0.035  # sides
_TILT = 0.2  # radians
_ZOOM = 0.07
_NOISE_MARGIN = 64


class SyntheticEndoscope:
    """One scene with one finding, or none.

    The same arguments give the same frames. Scenes that differ only in ``label`` share background, light, camera motion
    and noise. :meth:`frame` changes nothing, so threads may share an instance.
    """

    def __init__(self, seed: int, label: str, height: int, width: int) -> None:
        """Draw the scene (some 30 ms). ``height``, ``width``: of the frames, in pixels.

        Raises UsageError for an unknown label, a negative seed or frames under 32 pixels.
        """
        if label not in PAINTERS:
            raise UsageError(f"unknown synthetic label '{label}': choose one of {', '.join(LABELS)}")
        if min(height, width) < MIN_SIDE:
            raise UsageError(f"synthetic frames of {height} × {width} pixels: take at least {MIN_SIDE} × {MIN_SIDE}")
        if seed < 0:
            raise UsageError(f"synthetic seed {seed}: must not be negative")
        self.label = label
        self.height, self.width = height, width
        side = min(height, width)
        scale = min(1.0, _WORKING_SIDE / side)
        self._size = (round(width * scale), round(height * scale))
        self._side = min(self._size)
        rng = np.random.default_rng([seed, 0])
        self._phases = rng.uniform(0, 2 * np.pi, (5, 2))
        self._rates = rng.uniform(0.5, 1.3, (5, 2)) * np.array([1.0, 0.37])
        self._draw_scene(rng, np.random.default_rng([seed, 1, LABELS.index(label)]))
        self._draw_view(rng)
        self._draw_noise(rng)

    def frame(self, t: float) -> Bytes:
        """What the camera sees ``t`` seconds after the start: BGR uint8 [height, width, 3]."""
        pan_x, pan_y, tilt, zoom, exposure = self._motion(t)
        view = self._warped(self._texture, _PAN * pan_x, _PAN * pan_y, _TILT * tilt, 1 + _ZOOM * zoom)
        lit = cv2.multiply(view, self._falloff, scale=(1 + 0.05 * exposure) / 255)
        # Reflections of the lamp travel with the camera, so they follow the tissue only half of the way.
        gloss = self._warped(self._gloss, 0.5 * _PAN * pan_x, 0.5 * _PAN * pan_y, _TILT * tilt, 1 + _ZOOM * zoom)
        shine = cv2.min(cv2.LUT(cv2.add(gloss, self._glare), _SHINE), self._field)
        picture = cv2.add(lit, cv2.cvtColor(shine, cv2.COLOR_GRAY2BGR))
        if picture.shape[:2] != (self.height, self.width):
            picture = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return self._noisy(np.asarray(picture, np.uint8), t)

    def _motion(self, t: float) -> NDArray[np.floating]:
        """Pan in x and y, tilt, zoom and exposure at time t, each in −1…1: a slow and a slower wave."""
        return np.asarray(np.sin(self._rates * t + self._phases) @ np.array([0.65, 0.35]))

    def _warped(self, texture: Bytes, x: float, y: float, angle: float, zoom: float) -> Bytes:
        """The view of ``texture`` from (x, y) in sides, turned by ``angle``."""
        width, height = self._size
        scale = self._density / self._side / zoom
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        centre_x = (texture.shape[1] - 1) / 2 + x * self._density
        centre_y = (texture.shape[0] - 1) / 2 + y * self._density
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        matrix = np.array(
            [
                [cosine, -sine, centre_x - cosine * middle_x + sine * middle_y],
                [sine, cosine, centre_y - sine * middle_x - cosine * middle_y],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(texture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(warped, np.uint8)

    def _draw_scene(self, rng: np.random.Generator, lesion_rng: np.random.Generator) -> None:
        """Texture, BGR, and gloss: how well a point mirrors the lamp."""
        width, height = self._size[0] / self._side, self._size[1] / self._side
        self._density = float(self._side)
        canvas = Canvas.covering(width / 2 + 0.2, height / 2 + 0.2, self._density)
        site = Site.drawn(rng, width)
        lamp = Light(*rng.normal(0, 0.22, 2))
        surface, light = wall(rng, canvas, site)
        picture = surface.albedo * lamp.shading(surface.relief, canvas)[..., None]
        detail = lesion_detail(self.label, lesion_rng, canvas, site, surface, lamp)
        if detail is not None:
            rows, columns, change = detail
            picture[rows, columns] += change
        # Light that has travelled deep into the tube comes back redder.
        depth = np.stack([light**1.25, light**1.2, light], axis=-1)
        gain = rng.uniform(0.88, 1.15) * (1 + rng.normal(0, [0.06, 0.03, 0.03]))
        picture = picture * depth * gain.astype(np.float32)
        blur = rng.uniform(0.0005, 0.0045)
        blurred = cv2.GaussianBlur(picture, (0, 0), max(0.2, blur * self._density))
        self._texture = np.asarray(np.clip(blurred * 255, 0, 255), np.uint8)
        self._gloss = _gloss(rng, canvas, site, surface.relief, lamp, light)

    def _draw_view(self, rng: np.random.Generator) -> None:
        """What stays with the camera: fall-off of light, round field of view, and where glare is likely."""
        width, height = self._size
        view = Canvas.covering(width / self._side / 2, height / self._side / 2, self._side)
        xs, ys = (cv2.resize(axis, self._size) for axis in (view.xs, view.ys))
        view = Canvas(np.asarray(xs, np.float32), np.asarray(ys, np.float32), self._side)
        radii = np.sqrt(view.xs**2 + view.ys**2)
        bright = 1.12 / (1 + (radii / np.float32(rng.uniform(0.55, 0.9))) ** 2.4)
        reach = rng.uniform(0.56, 0.74)
        field = smoothstep(reach, reach - rng.uniform(0.008, 0.03), radii)
        if rng.uniform() < 0.5:  # black border, with straight edges as on many processors
            border_x, border_y = width / self._side / 2 - rng.uniform(0.0, 0.05), height / self._side / 2 - 0.012
            inside = (np.abs(view.xs) < border_x) & (np.abs(view.ys) < border_y)
            field = field * inside
        falloff = np.clip(bright * field * 255, 0, 255).astype(np.uint8)
        self._falloff = np.ascontiguousarray(np.repeat(falloff[..., None], 3, axis=2))
        self._field = (field * 255).astype(np.uint8)
        glare = 26 * np.exp(-(radii**2) / 0.12) + 8 * smooth_noise(rng, view, 0.2)
        self._glare = np.clip(glare, 0, 60).astype(np.uint8)

    def _draw_noise(self, rng: np.random.Generator) -> None:
        """Sensor noise as what to add and what to take away, larger than the frame so that it can shift."""
        shape = (self.height + _NOISE_MARGIN, self.width + _NOISE_MARGIN, 3)
        noise = (rng.standard_normal(shape, np.float32) * np.float32(rng.uniform(1.5, 4.5))).astype(np.int8)
        self._noise_up = np.maximum(noise, 0).astype(np.uint8)
        self._noise_down = np.maximum(-noise, 0).astype(np.uint8)

    def _noisy(self, picture: Bytes, t: float) -> Bytes:
        draws = np.random.default_rng([int(abs(t) * 1e6), int(t < 0)]).integers(0, _NOISE_MARGIN, 4)
        up_y, up_x, down_y, down_x = draws.tolist()
        picture_up = cv2.add(picture, self._noise_up[up_y : up_y + self.height, up_x : up_x + self.width])
        down = self._noise_down[down_y : down_y + self.height, down_x : down_x + self.width]
        return np.asarray(cv2.subtract(picture_up, down), np.uint8)


def _gloss(rng: np.random.Generator, canvas: Canvas, site: Site, relief: Floats, lamp: Light, light: Floats) -> Bytes:
    """How well the wet surface mirrors the lamp into the camera, uint8 [h, w]; the same for every label."""
    wet = relief + np.float32(0.0016) * smooth_noise(rng, canvas, 0.022)
    down, right = gradient(np.asarray(wet, np.float32), canvas.density)
    to_x, to_y = lamp.slopes(canvas)
    mirror = np.exp(-((right + to_x) ** 2 + (down + to_y) ** 2) / 0.02) * smoothstep(0.3, 0.8, light)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6) * site.radius
    x, y = site.x + offset * np.cos(angle), site.y + offset * np.sin(angle)
    spot = np.exp(-((canvas.xs - np.float32(x)) ** 2 + (canvas.ys - np.float32(y)) ** 2) / 0.0012)
    return np.asarray(np.clip((mirror + rng.uniform(0, 0.5) * spot * mirror) * 215, 0, 255), np.uint8)


_SHINE = np.clip((np.arange(256) - 212) * 12, 0, 255).astype(np.uint8)
