"""``python -m gensoup`` and the program ``gensoup``: answers Ctrl-C in a line, while it imports its commands too."""

import sys


def main() -> None:
    """Run the command line and exit, see :func:`gensoup.cli.main`."""
    try:
        from gensoup.runtime.interrupts import heeded_interrupts

        with heeded_interrupts() as imported:
            from gensoup.cli import main as run

            imported()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
