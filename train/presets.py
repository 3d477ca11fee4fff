"""Presets and configuration files: settings by name or from a YAML file, laid one over the other."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from gensoup.runtime.device import default_threads
from gensoup.runtime.errors import UsageError
from gensoup.train.run_folder import CONFIG_FILE
from gensoup.train.settings import Settings, plain_to_values

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
        raise UsageError(f"--preset: {_unknown(name)}")
    base, values = _read(_FOLDER / f"{name}.yaml")
    return values if base is None else _merged(preset_values(base), values)


def compose(data: str, preset: str | None, config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Settings from a preset (None: the one that the configuration file names as its ``preset``, else the default),
    overridden by a configuration file, overridden by single options (as attributes of :class:`Settings`).

    Mappings (scales, redraw) are merged key by key. Raises UsageError for an unknown preset, with the nearest names, an
    unreadable file or a value that makes no sense.
    """
    return Settings(data=data, **{"threads": default_threads(), **_said(preset, config, options, DEFAULT)})


def recompose(
    before: Settings, data: str, preset: str | None, config: Path | None, options: Mapping[str, Any]
) -> Settings:
    """The settings of a run that is resumed: as before, but for what is said again."""
    said = _said(preset, config, options)
    kept: dict[str, Any] = {name: getattr(before, name) for name in _MAPPINGS}
    return replace(before, data=data, **_merged(kept, said))


def _said(
    preset: str | None, config: Path | None, options: Mapping[str, Any], default: str | None = None
) -> dict[str, Any]:
    base, values = (None, {}) if config is None else _read(config / CONFIG_FILE if config.is_dir() else config)
    if None not in (preset, base) and preset != base:
        raise UsageError(f"--preset {preset}: {config} begins with another one, {base}; leave one of them out")
    below = preset or base or default
    return _merged(_merged({} if below is None else preset_values(below), values), options)


def _read(path: Path) -> tuple[str | None, dict[str, Any]]:
    """The preset that a file begins with, None for none, and what it sets; its ``weights_dir`` is relative to it."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(plain, dict):
        raise UsageError(f"--config {path}: must hold settings, one 'name: value' a line")
    base = plain.pop("preset", None)
    if base is not None and base not in preset_names():
        raise UsageError(f"--config {path}: preset {_unknown(str(base))}")
    try:
        values = plain_to_values({name: value for name, value in plain.items() if name not in _OF_A_RUN})
        if values.get("weights_dir") is not None:
            values["weights_dir"] = str(path.parent / values["weights_dir"])
        return base, values
    except UsageError as error:
        raise UsageError(f"--config {path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"--config {path}: {error}") from error


def _unknown(name: str) -> str:
    if near := difflib.get_close_matches(name, preset_names(), 1):
        return f"'{name}' is unknown; did you mean {near[0]}?"
    return f"'{name}' is unknown; the presets are {', '.join(preset_names())}"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``; mappings key by key."""
    merged = {**below, **above}
    for name in _MAPPINGS:
        if name in below and name in above:
            merged[name] = {**below[name], **above[name]}
    return merged
