"""HTML pages that are whole in themselves, no script, no network: the templates' environment, one style for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def pages(*folders: Path) -> Environment:
    """An environment for the templates in ``folders`` and in this part's own, where ``report.css`` lies.

    Raises MissingDependencyError without Jinja.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("jinja2", "report") from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _TEMPLATES]), autoescape=True, undefined=jinja2.StrictUndefined
    )


def check_pages() -> None:
    """Raise MissingDependencyError where a page with figures cannot be made, before anything is measured for it."""
    from gensoup.bench.figures import drawing

    pages()
    with drawing(1):
        pass
