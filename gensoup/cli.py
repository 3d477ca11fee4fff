"""The command line: assembles the parts' commands, maps errors to exit codes. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gensoup import __version__
from gensoup.bench.bench_cli import bench_command
from gensoup.bench.compare_cli import compare_command
from gensoup.bench.data_cli import app as data_app
from gensoup.bench.doctor_cli import doctor_command
from gensoup.bench.eval_cli import eval_command
from gensoup.bench.probe_cli import probe_command
from gensoup.demo import demo_command
from gensoup.export.export_cli import export_command
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.run_cli import RunCommand, run_command
from gensoup.runtime.signature_cli import keygen_command, sign_command
from gensoup.train.audit_cli import audit_command
from gensoup.train.cache_cli import cache_command
from gensoup.train.report_cli import report_command
from gensoup.train.similarity_cli import similarity_command
from gensoup.train.train_cli import train_command

EXIT_ERROR = GenSoupError.exit_code
EXIT_USAGE = UsageError.exit_code
EXIT_INTERRUPTED = 130

# Typer's own exceptions; where Typer keeps the base class differs between its versions.
_TyperUsageError: Any = typer.BadParameter.__mro__[1]
_TyperError: Any = typer.BadParameter.__mro__[2]

_SIMILARITY = ("train", "similarity")


class _Commands(TyperGroup):
    """``gensoup train similarity`` is a command of its own, though ``train`` itself takes a folder there."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if tuple(args[:2]) == _SIMILARITY:
            args = [" ".join(_SIMILARITY), *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    name="gensoup",
    help="Search, fuse, export, serve and time small networks for real-time endoscopy.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich doubles the time that --help takes
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
data_app.command("audit")(audit_command)
data_app.command("cache")(cache_command)
app.add_typer(data_app, name="data")
app.command(
    "train",
    epilog="gensoup train similarity A B DATA compares two finished runs layer by layer; a dataset folder of that name "
    "is ./similarity.",
)(train_command)
app.command(" ".join(_SIMILARITY), hidden=True)(similarity_command)
app.command("report")(report_command)
app.command("export")(export_command)
app.command("eval")(eval_command)
app.command("run", cls=RunCommand)(run_command)
app.command("bench")(bench_command)
app.command("compare")(compare_command)
app.command("doctor")(doctor_command)
app.command("probe")(probe_command)
app.command("keygen")(keygen_command)
app.command("sign")(sign_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"gensoup {__version__}")
        raise typer.Exit


@app.callback()
def gensoup(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Search, fuse, export, serve and time small networks for real-time endoscopy."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done or PASS, 1 FAIL, 2 INVALID, 64 usage, 70 any other error."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a broken image is named by us, in one line
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--debug" in arguments:
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
        sys.exit(_run(arguments))
    try:
        code = _run(arguments)
        if code == EXIT_INTERRUPTED:  # Typer's own answer to Ctrl-C, silent
            _complain(_interrupted(arguments))
    except GenSoupError as error:
        _complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain(_interrupted(arguments))
        code = EXIT_INTERRUPTED
    except MemoryError:
        _complain("out of memory; try a smaller --size or --batch-size")
        code = EXIT_ERROR
    except OSError as error:
        _complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
        code = EXIT_ERROR
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        _complain(f"{type(error).__name__}: {line} (a defect of gensoup; --debug shows where)")
        code = EXIT_ERROR
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except _TyperUsageError as error:
        if message := error.format_message():
            message = message.replace("Value error, ", "")  # what a newer Typer puts before its own words
            _complain(f"{message} (gensoup --help lists the commands, gensoup COMMAND --help the options)")
        return EXIT_USAGE
    except _TyperError as error:
        _complain(error.format_message())
        return EXIT_ERROR


def _interrupted(arguments: list[str]) -> str:
    ways = {"train": "train goes on with --resume", "probe": "the same command goes on where it was"}
    told = next((way for command, way in ways.items() if command in arguments[:1]), None)
    return "interrupted" if told is None else f"interrupted; {told}"


def _complain(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
