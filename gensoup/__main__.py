"""``python -m gensoup``."""

from gensoup.cli import main

main()
