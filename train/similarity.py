"""How alike two networks see the same images: projection-weighted canonical correlation of their layers' outputs.

Thesis 4.3.2; Morcos, Raghu and Bengio 2018, "Insights on representational similarity in neural networks with canonical
correlation". Positions of a convolution's output count as samples, as they do there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from torch import nn

from gensoup.train.activations import Cells, common_grid, layer_activations, main_layers, stage_layers

Floats = NDArray[np.float64]

# Unrelated activations correlate too when samples are few: canonical variables are fitted. At ten samples a channel
# independent Gaussians of equal width still reach .27, at fifty .12; so the chance level is given beside.
ROWS_PER_CHANNEL_NEEDED = 10
ROWS_PER_CHANNEL = 12
LEAST_ROWS = 2_000
# Directions below these carry float32's rounding alone, relative to the strongest and to the uncentred values.
RANK_TOLERANCE = 1e-5
CONSTANT_TOLERANCE = 1e-9
BYTES_AT_ONCE = 400_000_000


@dataclass(frozen=True)
class LayerSimilarity:
    """PWCCA of two layers.

    channels: of either; rows: samples compared. similarity: in [0, 1], None where there is none, with the ``reason``.
    chance: what the same layers reach when the samples of one are shuffled, so that nothing is in common.
    """

    layer_a: str
    layer_b: str
    channels: tuple[int, int]
    rows: int
    similarity: float | None
    chance: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Similarities of two networks. paired: layer by layer of one layout; else every stage with every stage."""

    paired: bool
    layers: tuple[LayerSimilarity, ...]

    @property
    def mean(self) -> float | None:
        """The mean over all that could be compared, None where nothing could."""
        known = [one.similarity for one in self.layers if one.similarity is not None]
        return sum(known) / len(known) if known else None


def pwcca(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Projection-weighted canonical correlation in [0, 1] of activations x [N, C1] and y [N, C2] of the same N samples.

    With both centred, of rank r1 and r2, and orthonormal bases X = U1 S1 V1ᵀ, Y = U2 S2 V2ᵀ, the singular values of
    U1ᵀU2 = P diag(ρ) Qᵀ are the canonical correlations and the columns of H = U1 P the canonical variables of x. The
    result is Σ α_i ρ_i / Σ α_i, each weighted by what it says about x: α_i = Σ_j |⟨h_i, x_j⟩| over the channels x_j.
    The weights come from the side of smaller rank (from y, H = U2 Q, when r2 < r1), as in the authors' code: from the
    other, parts that have no partner would be left out of the mean.

    Invariant to shifts, permutations and one common scale of each; on the side that gives no weights, to every
    invertible linear map. Take ten samples a channel or more; raises ValueError for fewer than C1 + C2 (from there down
    the result nears 1 for any data), shapes that do not fit, values that are not finite and constant activations.
    """
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(f"activations must be [N, C1] and [N, C2], got {list(first.shape)} and {list(second.shape)}")
    if len(first) < first.shape[1] + second.shape[1]:
        raise ValueError(
            f"{len(first)} samples of {first.shape[1]} and {second.shape[1]} channels correlate whatever they are, "
            "give at least ten a channel"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("activations must be finite numbers")
    bases = _Basis.of(first), _Basis.of(second)
    for name, basis in zip("xy", bases, strict=True):
        if basis.rank == 0:
            raise ValueError(f"{name} is constant: nothing can correlate with it")
    return _similarity(*bases)


def compare_activations(
    model_a: nn.Module,
    model_b: nn.Module,
    images: NDArray[np.uint8],
    layers: Sequence[str] | None = None,
    *,
    images_b: NDArray[np.uint8] | None = None,
    seed: int = 0,
    on_layer: Callable[[int, int], None] | None = None,
) -> Comparison:
    """PWCCA of the layers of two networks on the same images, uint8 BGR [N, H, W, 3].

    Networks whose convolutions and linear layers bear the same names (one architecture, or one family in two widths)
    are compared layer by layer: all of them, or the modules named in ``layers``. Any others are compared stage by
    stage, every stage of A with every one of B; a stage's output is the last at its resolution, and ``layers`` must be
    None. Where grids differ the finer one is averaged over areas, so that cells correspond. Of all cells of all images
    at least ten a channel are drawn by ``seed``; a layer with fewer is left out, with the reason. Convolutions are
    taken in front of batch norm and activation, so a first one with as many channels as its patch has values gives 1
    whatever its weights: both span the same patches.

    images_b: the same images as B wants them, where its input size is another. Both networks are left in eval mode.
    Raises ValueError for layers that are not there or images that do not match.
    """
    images_b = images if images_b is None else images_b
    if len(images) != len(images_b) or len(images) == 0:
        raise ValueError(
            f"{len(images)} and {len(images_b)} images: give the same ones, at least one, to both networks"
        )
    shapes_a, shapes_b = main_layers(model_a, images[:1], layers), main_layers(model_b, images_b[:1], layers)
    paired = list(shapes_a) == list(shapes_b)
    if not paired:
        if layers is not None:
            raise ValueError("layers can be named for two networks of one architecture only")
        shapes_a, shapes_b = stage_layers(model_a, images[:1]), stage_layers(model_b, images_b[:1])
    report = on_layer or (lambda done, total: None)
    rng = np.random.default_rng(seed)
    sides = _Side(model_a, images, shapes_a), _Side(model_b, images_b, shapes_b)
    return Comparison(paired, tuple((_paired if paired else _crossed)(*sides, rng, report)))


Shapes = dict[str, tuple[int, int, int]]  # layer → channels, height, width
Report = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class _Side:
    """A network, what it is shown (uint8 BGR [N, H, W, 3]) and the shapes of its layers that take part."""

    model: nn.Module
    images: NDArray[np.uint8]
    shapes: Shapes

    def activations(self, wanted: Mapping[str, Cells]) -> dict[str, NDArray[np.float32]]:
        """Of each layer at its cells: float32 [R, C]."""
        return layer_activations(self.model, self.images, wanted)


def _paired(a: _Side, b: _Side, rng: np.random.Generator, report: Report) -> list[LayerSimilarity]:
    cells, found = {}, {}
    for name in a.shapes:
        shapes = a.shapes[name], b.shapes[name]
        channels = shapes[0][0], shapes[1][0]
        drawn = _draw(len(a.images), common_grid(shapes), max(channels), rng)
        if _too_few(drawn, channels):
            found[name] = _left_out(name, name, drawn, channels)
        else:
            cells[name] = drawn
    for names in _portions(cells, a.shapes, b.shapes):
        wanted = {name: cells[name] for name in names}
        of_a, of_b = a.activations(wanted), b.activations(wanted)
        for name in names:
            # One layer's bases at a time: they are as large as the activations.
            found[name] = _compared(name, name, _Basis.of(of_a.pop(name)), _Basis.of(of_b.pop(name)), rng)
            report(len(found), len(a.shapes))
    return [found[name] for name in a.shapes]


def _crossed(a: _Side, b: _Side, rng: np.random.Generator, report: Report) -> list[LayerSimilarity]:
    """Every stage of A with every stage of B, at the same cells of the coarsest grid of all."""
    shapes = [*a.shapes.values(), *b.shapes.values()]
    drawn = _draw(len(a.images), common_grid(shapes), max(shape[0] for shape in shapes), rng)
    enough_a, enough_b = (
        [name for name, shape in side.shapes.items() if not _too_few(drawn, (shape[0], shape[0]))] for side in (a, b)
    )
    of_a, of_b = a.activations(dict.fromkeys(enough_a, drawn)), b.activations(dict.fromkeys(enough_b, drawn))
    bases_b = {name: _Basis.of(of_b.pop(name)) for name in enough_b}
    found: list[LayerSimilarity] = []
    for name_a in a.shapes:
        basis_a = _Basis.of(of_a.pop(name_a)) if name_a in of_a else None
        for name_b in b.shapes:
            basis_b = bases_b.get(name_b)
            if basis_a is None or basis_b is None:
                found.append(_left_out(name_a, name_b, drawn, (a.shapes[name_a][0], b.shapes[name_b][0])))
            else:
                found.append(_compared(name_a, name_b, basis_a, basis_b, rng))
            report(len(found), len(a.shapes) * len(b.shapes))
    return found


def _draw(images: int, grid: tuple[int, int], channels: int, rng: np.random.Generator) -> Cells:
    available = images * grid[0] * grid[1]
    count = min(available, max(LEAST_ROWS, ROWS_PER_CHANNEL * channels))
    return Cells(grid, np.sort(rng.choice(available, count, replace=False, shuffle=False)))


def _portions(cells: dict[str, Cells], shapes_a: Shapes, shapes_b: Shapes) -> list[list[str]]:
    """Layers in portions whose activations fit into memory; the networks run once for each."""
    portions: list[list[str]] = []
    held = 0
    for name, drawn in cells.items():
        size = 4 * len(drawn.rows) * (shapes_a[name][0] + shapes_b[name][0])
        if not portions or held + size > BYTES_AT_ONCE:
            portions.append([])
            held = 0
        portions[-1].append(name)
        held += size
    return portions


def _too_few(drawn: Cells, channels: tuple[int, int]) -> bool:
    return len(drawn.rows) < ROWS_PER_CHANNEL_NEEDED * max(channels)


def _left_out(name_a: str, name_b: str, drawn: Cells, channels: tuple[int, int]) -> LayerSimilarity:
    rows, needed = len(drawn.rows), ROWS_PER_CHANNEL_NEEDED * max(channels)
    reason = f"{rows:,} samples, {needed:,} needed: give more images"
    return LayerSimilarity(name_a, name_b, channels, rows, None, None, reason)


def _compared(name_a: str, name_b: str, a: _Basis, b: _Basis, rng: np.random.Generator) -> LayerSimilarity:
    rows, channels = len(a.directions), (a.channels, b.channels)
    reason = None
    if not (a.finite and b.finite):
        reason = "activations are not finite"
    elif min(a.rank, b.rank) == 0:
        reason = "activations are constant"
    if reason is not None:
        return LayerSimilarity(name_a, name_b, channels, rows, None, None, reason)
    chance = _similarity(a, b.reordered(rng.permutation(rows)))
    return LayerSimilarity(name_a, name_b, channels, rows, _similarity(a, b), chance)


@dataclass(frozen=True, eq=False)
class _Basis:
    """Centred activations U S Vᵀ. directions: U [N, r]; loadings: S Vᵀ [r, C]; finite: whether they were numbers."""

    directions: Floats
    loadings: Floats
    finite: bool = True

    @property
    def rank(self) -> int:
        return self.directions.shape[1]

    @property
    def channels(self) -> int:
        return self.loadings.shape[1]

    @classmethod
    def of(cls, activations: NDArray[np.floating]) -> _Basis:
        """By QR and the SVD of R, in float64; directions too weak to be more than rounding are left out."""
        rows = np.asarray(activations, np.float64)
        if not np.isfinite(rows).all():
            return cls(np.empty((len(rows), 0)), np.empty((0, rows.shape[1])), finite=False)
        centred = rows - rows.mean(0)
        q, r = linalg.qr(centred, mode="economic", check_finite=False)
        u, s, vt = linalg.svd(r, full_matrices=False, check_finite=False)
        least = max(RANK_TOLERANCE * s.max(initial=0), CONSTANT_TOLERANCE * float(np.linalg.norm(rows)))
        kept = s > least
        return cls(q @ u[:, kept], s[kept, None] * vt[kept])

    def reordered(self, order: NDArray[np.int64]) -> _Basis:
        return _Basis(self.directions[order], self.loadings)


def _similarity(x: _Basis, y: _Basis) -> float:
    p, correlations, qt = linalg.svd(x.directions.T @ y.directions, full_matrices=False, check_finite=False)
    variables_in_channels = p.T @ x.loadings if x.rank <= y.rank else qt @ y.loadings
    weights = np.abs(variables_in_channels).sum(1)
    return float(np.clip(correlations, 0, 1) @ weights / weights.sum())
