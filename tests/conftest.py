"""What several tests share: a bundle that opens in milliseconds, a small set of images, one finished tiny run."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gensoup.cli import main
from gensoup.runtime.bundle import Golden, write_bundle
from gensoup.runtime.engines import load_engine
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from gensoup.export.exporter import Exported
    from gensoup.train.settings import Settings

LABELS = ("blue", "green", "red")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that began last would leave the other process without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What engines were chosen or built by the user of this machine is neither read nor changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


SIZE = 32


def channel_classifier(size: int = SIZE, classes: int = len(LABELS), saliency: bool = False) -> bytes:
    """An ONNX graph that names the strongest colour channel: cast → mean over the picture → linear → softmax.

    saliency: a second output, the brightness of each of 8 × 8 parts of the picture.
    """
    weights = np.zeros((3, classes), np.float32)
    weights[:3, :3] = np.eye(3, classes)[:, :3] * 0.05
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, classes])]
    constants = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(weights, "weights"),
    ]
    if saliency:
        side = size // 8
        nodes += [
            helper.make_node("ReduceMax", ["float", "channels"], ["bright"], keepdims=0),
            helper.make_node("Unsqueeze", ["bright", "one"], ["plane"]),
            helper.make_node("AveragePool", ["plane"], ["parts"], kernel_shape=[side, side], strides=[side, side]),
            helper.make_node("Squeeze", ["parts", "one"], ["part"]),
            helper.make_node("Div", ["part", "white"], ["saliency"]),
        ]
        outputs.append(helper.make_tensor_value_info("saliency", TensorProto.FLOAT, [1, 8, 8]))
        constants += [
            numpy_helper.from_array(np.array([3], np.int64), "channels"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
            numpy_helper.from_array(np.array(255, np.float32), "white"),
        ]
    graph = helper.make_graph(
        nodes,
        "channel_classifier",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, size, size, 3])],
        outputs,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def plain_frame(color: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A BGR frame that is bright in channel ``color`` alone, with a little texture."""
    frame = np.random.default_rng(color).integers(0, 40, (height, width, 3), dtype=np.uint8)
    frame[..., color] += 180
    return frame


def write_tiny_bundle(path: Path, saliency: bool = False) -> Path:
    """Write a whole, valid bundle around :func:`channel_classifier`."""
    preprocess = Preprocess(SIZE)
    model = channel_classifier(saliency=saliency)
    engine = load_engine(model, threads=1)
    cameras = tuple(plain_frame(color, *size) for color, size in enumerate([(97, 131), (240, 320), (1080, 1920)]))
    frames = np.stack([preprocess(camera) for camera in cameras])
    golden = Golden(cameras, frames, np.stack([engine.infer(frame) for frame in frames]))
    manifest = Manifest(
        labels=LABELS,
        preprocess=preprocess,
        architecture="channel_classifier",
        macs=9,
        parameters=9,
        precisions={
            "fp32": {
                "member": "model.onnx",
                "engine": engine.name,
                "reference": "itself",
                "tolerance": 1e-5,
                "saliency": saliency,
            }
        },
        provenance={"model": hashlib.sha256(model).hexdigest()},
        saliency={"available": True, "size": [8, 8]} if saliency else {},
    )
    write_bundle(path, manifest, {"fp32": model}, golden)
    return path


@pytest.fixture
def gensoup(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: arguments → (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that classifies frames by their strongest colour channel; labels blue, green, red."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.gensoup")


@pytest.fixture(scope="session")
def looking_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like ``tiny_bundle``, with a saliency map of 8 × 8 cells: their brightness."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "looking.gensoup", saliency=True)


@pytest.fixture(scope="session")
def make_tiny_model() -> Callable[..., bytes]:
    """Makes graphs like the one inside ``tiny_bundle``: (size, classes) → ONNX bytes."""
    return channel_classifier


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    """The ONNX bytes inside ``tiny_bundle``; input size 32."""
    return channel_classifier()


@pytest.fixture(scope="session")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 12 frames, 160 × 120 at 20 Hz: 4 blue, 4 green, 4 red."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (160, 120))
    for number in range(12):
        writer.write(plain_frame(number // 4, 120, 160))
    writer.release()
    return path


# Awkward on purpose: a number, a space with an accent and what HTML, terminal markup and mathematical text set apart.
SHAPES = ("7", "lésion plate", "R&D <b> [x] $a_")
PER_SHAPE, PER_SCENE = 40, 2


def draw_shape(shape: int, seed: int, height: int = 64, width: int = 72) -> np.ndarray:
    """A noisy BGR frame with nothing on it (0), a reddish disc (1) or greenish stripes (2)."""
    rng = np.random.default_rng([seed, shape])
    frame = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    colour = [int(value) for value in rng.integers(0, 120, 3)]
    colour[2 if shape == 1 else 1] = int(rng.integers(180, 255))
    if shape == 1:
        centre = (int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20)))
        cv2.circle(frame, centre, 14, colour, -1)
    elif shape == 2:
        for column in range(int(rng.integers(0, 8)), width, 10):
            cv2.line(frame, (column, 0), (column, height - 1), colour, 3)
    return frame


def save_image(path: Path, image: np.ndarray) -> Path:
    """Write an image in the format of its suffix; unlike ``cv2.imwrite``, wherever the path has accents too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def write_shapes(folder: Path, per_class: int = PER_SHAPE, labels: tuple[str, ...] = SHAPES) -> Path:
    """A dataset folder that a small network learns in seconds: one shape a class, scenes of two, ``groups.csv``."""
    lines = ["file,group\n"]
    for shape, label in enumerate(labels):
        for number in range(per_class):
            name = f"{label}/{number:03d}.png"
            save_image(folder / name, draw_shape(shape, number))
            lines.append(f"{name},{label} {number // PER_SCENE}\n")
    (folder / "groups.csv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three easy classes of 40 images at 64 × 72 px, in scenes of two. Read only: it is shared."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "données & co")


@pytest.fixture(scope="session")
def make_shapes() -> Callable[..., Path]:
    """Makes folders like ``shapes``: (folder, per_class=40, labels=SHAPES) → folder."""
    return write_shapes


@pytest.fixture(scope="session")
def save() -> Callable[[Path, np.ndarray], Path]:
    """Writes an image: (path, array) → path."""
    return save_image


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    """Makes settings of runs that take seconds: (data, **changes) → Settings."""

    def make(data: Path, **changes: Any) -> Settings:
        from gensoup.train.settings import Settings

        values: dict[str, Any] = {
            "sizes": (32,),
            "architectures": ("shufflenet_v2_x0_5",),
            "init": "random",
            "generations": 2,
            "population": 3,
            "population_step": 1,
            "population_min": 2,
            "branches": 1,
            "branch_epochs": 1.0,
            "refit_epochs": 4.0,
            "batch_size": 16,
        }
        return Settings(**{"data": str(data), **values, **changes})

    return make


@dataclass(frozen=True)
class TinyRun:
    """A finished run: its folder, dataset, settings and metrics; ``broken`` are the dataset's broken images."""

    folder: Path
    data: Path
    settings: Settings
    metrics: dict[str, Any]
    broken: tuple[str, ...]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, make_settings: Callable[..., Settings]) -> TinyRun:
    """One finished run for many tests to read: four architectures, of which a limit on multiply-adds takes two.

    Its dataset has every oddity that a run must bear: awkward class names (one spelt with combining accents on disk),
    16-bit, grey and transparent images, a text called .jpg, a JPEG cut short.
    """
    from gensoup.train.run import train_run

    decomposed = tuple(unicodedata.normalize("NFD", label) for label in SHAPES)
    data = write_shapes(tmp_path_factory.mktemp("odd") / "données", labels=decomposed)
    save_image(data / "7" / "deep.png", draw_shape(0, 900).astype(np.uint16) * 257)
    save_image(data / "7" / "grey.png", draw_shape(0, 901)[:, :, 0])
    save_image(data / "7" / "clear.png", cv2.cvtColor(draw_shape(0, 902), cv2.COLOR_BGR2BGRA))
    (data / "7" / "text.jpg").write_text("no image at all", encoding="utf-8")
    content = save_image(data / "7" / "cut.jpg", draw_shape(0, 903)).read_bytes()
    (data / "7" / "cut.jpg").write_bytes(content[: len(content) // 2])
    settings = make_settings(
        data,
        sizes=(48,),
        architectures=("shufflenet_v2_x0_5", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x1_0"),
        max_macs=5.0,
        population=4,
        branches=2,
    )
    folder = tmp_path_factory.mktemp("run") / "tiny"
    metrics = train_run(settings, folder, progress=lambda stage, done, total: None)
    return TinyRun(folder, data, settings, metrics, ("7/cut.jpg", "7/text.jpg"))


@pytest.fixture(scope="session")
def exported(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The bundle of ``tiny_run``; its path is ``exported.path``."""
    from gensoup.export.exporter import export_run

    return export_run(tiny_run.folder, tmp_path_factory.mktemp("export") / "tiny.gensoup")
