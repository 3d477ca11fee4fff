"""Processes that draw the screen: they are reported and never held against a measurement (DESIGN, section 4)."""

from __future__ import annotations

_NAMES = (
    "xorg",
    "x",
    "xwayland",
    "gnome-shell",
    "mutter",
    "kwin_x11",
    "kwin_wayland",
    "plasmashell",
    "weston",
    "sway",
    "cage",
    "lightdm",
    "gdm-x-session",
    "gdm-wayland-session",
    "compiz",
    "dwm.exe",
    "explorer.exe",
)


def draws_the_screen(name: str) -> bool:
    """Whether a process of this name (a path is cut) is a display server, a compositor or the desktop's shell."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].lower() in _NAMES
