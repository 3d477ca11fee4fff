"""Presets and configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.export.architectures import count_cost
from gensoup.runtime.errors import UsageError
from gensoup.train.genes import Alphabet, Scale
from gensoup.train.presets import _FOLDER, compose, preset_names, recompose
from gensoup.train.settings import Settings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_all_presets_make_settings_and_the_default_is_gen_soup() -> None:
    assert set(preset_names()) == {
        "astrocytes-thesis",
        "gen-cnn",
        "gen-cnn-thesis",
        "gen-soup",
        "gen-soup-thesis-1",
        "gen-soup-thesis-2",
    }
    for name in preset_names():
        compose("data", name, None, {})
    assert compose("data", None, None, {"threads": 1}) == compose("data", "gen-soup", None, {"threads": 1})
    assert compose("data", None, None, {"threads": 1}) == Settings(data="data")


@pytest.mark.parametrize("name", [name for name in preset_names() if name.endswith(("thesis", "1", "2"))])
def test_every_value_of_a_thesis_preset_names_where_it_comes_from(name: str) -> None:
    lines = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    bare = [
        line for line in lines if line and not line.startswith(("#", "  - ", "scales:", "redraw:")) and "#" not in line
    ]
    assert [line for line in bare if not line.startswith("  ")] == []
    sources = ("table", "section", "chapter", "eq.", "algorithm", "ours", "fixed", "came with", "where", "a child")
    assert all(line.split("#")[1].strip().startswith(sources) for line in lines if "  #" in line)


def test_gen_cnn_of_the_thesis() -> None:
    settings = compose("data", "gen-cnn-thesis", None, {})
    assert [settings.population_of(number) for number in (0, 12, 24)] == [50, 50, 50]
    assert settings.generations == 25 and settings.epochs == 3 and settings.size_of(3, 448) == 112
    assert settings.sizes == (448,) and settings.branch_epochs == 50 and settings.branches == 1
    assert settings.redraw["architecture"] == 0.4 and settings.redraw["learning_rate"] == 0.2
    assert settings.inherit == "none" and settings.roles == "three" and not settings.soup


def test_gen_soup_of_the_thesis() -> None:
    one, two = (compose("data", f"gen-soup-thesis-{number}", None, {}) for number in (1, 2))
    assert [one.population_of(number) for number in (0, 1, 7, 8, 19)] == [50, 45, 15, 10, 10]
    sizes = [one.size_of(number, 302) for number in range(20)]
    assert sizes[0] == 224 and sizes[10:] == [302] * 10
    assert (one.generations, one.schedule, two.generations, two.schedule) == (20, "cosine", 35, "constant")
    assert two.size_of(24, 302) < two.size_of(25, 302) == 302
    assert len(one.optimizers) == 11 and one.inherit == "average" and one.mutation_sigma == 0
    assert one.redraw.get("architecture", 0.0) == 0.0 and one.redraw["loss"] == 0.25
    assert "strong" not in Alphabet(("one",), scales=one.scales).names


def test_options_go_over_a_file_and_a_file_over_the_preset(tmp_path: Path) -> None:
    text = "generations: 9\nsizes: 64\nscales:\n  learning_rate: [log, 0.1, 1]\nredraw: {loss: 0.5}\n"
    config = write(tmp_path / "mine.yaml", text)
    settings = compose("data", "gen-cnn-thesis", config, {"generations": 7, "threads": 3})
    assert (settings.generations, settings.sizes, settings.threads, settings.population) == (7, (64,), 3, 50)
    assert settings.scales["learning_rate"] == Scale("log", 0.1, 1.0)
    assert settings.scales["weight_decay"] == Scale("linear", 1e-9, 0.1)
    assert settings.redraw["loss"] == 0.5 and settings.redraw["optimizer"] == 0.4
    assert compose("data", None, write(tmp_path / "t.yaml", "threads: 5\n"), {}).threads == 5


def test_a_file_may_begin_with_a_preset(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.yaml", "preset: gen-soup-thesis-1\ngenerations: 35\nschedule: constant\n")
    assert compose("data", None, mine, {}) == compose("data", "gen-soup-thesis-2", None, {})
    assert compose("data", "gen-soup-thesis-1", mine, {}) == compose("data", None, mine, {})
    with pytest.raises(UsageError, match=r"--preset gen-cnn: .*mine.yaml begins with another one, gen-soup-thesis-1"):
        compose("data", "gen-cnn", mine, {})
    with pytest.raises(UsageError, match=r"--config .*: preset 'gen-soop' is unknown; did you mean gen-soup"):
        compose("data", None, write(tmp_path / "typo.yaml", "preset: gen-soop\n"), {})
    before = compose("data", None, mine, {})
    assert recompose(before, "data", None, mine, {}) == before  # resumed with the file named again


def test_paths_are_absolute_and_a_files_weights_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = compose("data", None, None, {"weights_dir": "w"})
    assert settings.data == str(tmp_path / "data") and settings.weights_dir == str(tmp_path / "w")
    (tmp_path / "configs").mkdir()
    mine = write(tmp_path / "configs" / "mine.yaml", "weights_dir: ../w\n")
    monkeypatch.chdir("/")
    assert compose("data", None, mine, {}).weights_dir == str(tmp_path / "w")


def test_a_runs_own_config_is_a_configuration(tmp_path: Path) -> None:
    settings = compose("data", "gen-soup-thesis-1", None, {"seed": 5, "threads": 2})
    settings.save(tmp_path, "fingerprint")
    assert compose("data", None, tmp_path, {}) == settings
    assert compose("data", None, tmp_path / "config.yaml", {"seed": 6}).seed == 6


def test_resuming_keeps_what_is_not_said_again() -> None:
    before = compose("data", "gen-cnn", None, {"seed": 4, "scales": {"strong": Scale("linear", 0.5, 1.5)}})
    assert recompose(before, "data", None, None, {}) == before
    assert recompose(before, "data", "gen-cnn", None, {}) == before
    again = recompose(before, "data", None, None, {"scales": {"weak": Scale("linear", 0.5, 1.5)}})
    assert again.differences(before) != [] and again.scales["strong"] == before.scales["strong"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("generation: 3\n", "did you mean generations"),
        ("- 3\n", "name: value"),
        ("{", "no YAML"),
        ("scales: {learning_rat: [log, 1, 2]}\n", "did you mean learning_rate"),
        ("scales: {learning_rate: [log, 3, 1]}\n", "wrong way round"),
        ("scales: {learning_rate: 3}\n", "lowest, highest"),
        ("scales: 3\n", "mine.yaml"),
        ("scales: {learning_rate: [linear, -1, 1]}\n", "from 0 on"),
        ("scales: {augmentation: [linear, 0, 5]}\n", "from 0 to 1"),
        ("architectures: squeezenet1_0_1\n", "did you mean squeezenet1_1"),
        ("generations: many\n", "--generations many"),
        ("redraw: 3\n", "redraw"),
        ("redraw: {loss: often}\n", "redraw, loss often"),
        ("generations: 2.5\n", "--generations 2.5: must be a whole number"),
        ("mixing: sometimes\n", "true or false"),
        ("min_fps: fast\n", "--min-fps fast"),
        ("sizes: [big]\n", "--size big"),
        ("losses: [[cross_entropy]]\n", "--losses ['cross_entropy']: must be a name"),
        ("optimizers: 3\n", "--optimizers 3: must be a name"),
        ("max_macs: 6.0e+8\n", "--max-macs 6e+08: is in millions"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_the_way_out(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        compose("data", None, write(tmp_path / "mine.yaml", text), {})
    assert named in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_preset_or_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--preset: 'gen-soop' is unknown; did you mean gen-soup"):
        compose("data", "gen-soop", None, {})
    with pytest.raises(UsageError, match=r"--config .*none\.yaml: cannot be read"):
        compose("data", None, tmp_path / "none.yaml", {})


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_admits_its_own_alphabet(name: str) -> None:
    settings = compose("data", name, None, {})
    if name in ("gen-soup", "gen-cnn"):
        return  # ours keeps two large ones to show what the limit is for
    for architecture in settings.architectures:
        assert count_cost(architecture, 5, settings.sizes[0])[0] <= settings.max_macs * 1e6, architecture
