"""Presets and configuration files: settings by name or from a YAML file, laid one over the other."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from gensoup.runtime.errors import UsageError
from gensoup.train.settings import CONFIG_FILE, Settings, default_threads, plain_to_values

DEFAULT = "gen-soup"
_FOLDER = Path(__file__).parent / "presets"
_MAPPINGS = ("scales", "redraw")
# What describes a run rather than decides it, in a run's own config.yaml; taken as a configuration it is left aside.
_OF_A_RUN = ("schema_version", "data_fingerprint", "data")


def preset_names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def preset_values(name: str) -> dict[str, Any]:
    """What a preset sets, as attributes of :class:`Settings`. Raises UsageError for an unknown one."""
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), 3) or preset_names()
        raise UsageError(f"--preset: '{name}' is unknown; did you mean {', '.join(near)}?")
    return _read(_FOLDER / f"{name}.yaml")


def compose(data: str, preset: str | None, config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Settings from a preset (None: the default one), overridden by a configuration file, overridden by single options
    (as attributes of :class:`Settings`).

    Mappings (scales, redraw) are merged key by key. Raises UsageError for an unknown preset, with the nearest names, an
    unreadable file or a value that makes no sense.
    """
    return Settings(data=data, **{"threads": default_threads(), **_said(preset or DEFAULT, config, options)})


def recompose(
    before: Settings, data: str, preset: str | None, config: Path | None, options: Mapping[str, Any]
) -> Settings:
    """The settings of a run that is resumed: as before, but for what is said again."""
    said = _said(preset, config, options)
    kept: dict[str, Any] = {name: getattr(before, name) for name in _MAPPINGS}
    return replace(before, data=data, **_merged(kept, said))


def _said(preset: str | None, config: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if preset is not None:
        values = preset_values(preset)
    if config is not None:
        values = _merged(values, _read(config / CONFIG_FILE if config.is_dir() else config))
    return _merged(values, options)


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(plain, dict):
        raise UsageError(f"--config {path}: must hold settings, one 'name: value' a line")
    try:
        return plain_to_values({name: value for name, value in plain.items() if name not in _OF_A_RUN})
    except UsageError as error:
        raise UsageError(f"--config {path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"--config {path}: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``; mappings key by key."""
    merged = {**below, **above}
    for name in _MAPPINGS:
        if name in below and name in above:
            merged[name] = {**below[name], **above[name]}
    return merged
