"""The `compress-tui` command: options, commands, and the one place where errors become text and exit codes.

Nothing heavy is imported here: a command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated

import typer

from engine.errors import DONE, FAILED, INTERRUPTED, EngineError, UsageError
from tui import output
from tui.commands import inspect, listing, pareto, profile, prompt, results, runs, screen, shell
from tui.commands import run as run_command

NAME = "compress-tui"
WIDTH = {"terminal_width": 80, "max_content_width": 80}  # the same help on every terminal and in a pipe

app = typer.Typer(
    name=NAME,
    help="Make a language model smaller, and win back with prompts what that lost.",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=WIDTH,
)
app.command("run")(run_command.run)
app.command("inspect")(inspect.show)
app.command("runs")(runs.list_runs)
app.command("attach")(runs.attach)
app.command("cancel")(runs.cancel)
app.command("report")(results.report)
app.command("compare")(results.compare)
app.command("pareto")(pareto.pareto)
app.add_typer(profile.app, name="profile")
app.add_typer(prompt.app, name="prompt")
app.command("list")(listing.show)
app.command("shell")(shell.shell)


@dataclass(frozen=True)
class AppOptions:
    """What was given before the command."""

    profile: str | None
    mouse: bool


@app.callback()
def start(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="Profile to open: a file or a shipped name.")
    ] = None,
    no_mouse: Annotated[bool, typer.Option("--no-mouse", help="Leave the mouse to the terminal.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    """Without a command: the full-screen app."""
    context.obj = AppOptions(profile, not no_mouse)
    if version:
        output.data(_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        return screen.open_app(profile, mouse=not no_mouse)
    if profile and context.invoked_subcommand != "run":
        raise UsageError(f"--profile goes with the app and with run, not with {context.invoked_subcommand}")
    if no_mouse and context.invoked_subcommand != "attach":
        raise UsageError(f"--no-mouse goes with the app and with attach, not with {context.invoked_subcommand}")
    return DONE


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns the exit code; raises nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a glyph is no reason to stop
    try:
        return _invoke(arguments)
    except EngineError as error:
        output.error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except output.ReaderGone:
        return DONE
    except OSError as error:
        where = str(error.filename) if error.filename else None
        output.error(EngineError(error.strerror or str(error), where=where))
        return FAILED
    except Exception as error:
        return _internal(error)
    finally:
        output.settle()


def _invoke(arguments: list[str] | None) -> int:
    """Parses and runs; the parser's own errors become ours."""
    try:
        code = typer.main.get_command(app).main(arguments, prog_name=NAME, standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        message = str(error.format_message()).strip().rstrip(".")
        context = getattr(error, "ctx", None)
        where = context.command_path if context else NAME
        raise UsageError(message[:1].lower() + message[1:], hint=f"{where} --help") from error
    return int(code or DONE)


def _internal(error: Exception) -> int:
    """A bug of ours: said as such; the traceback only on request."""
    if os.environ.get("COMPRESS_TUI_DEBUG"):
        traceback.print_exc()
    hint = "this is a bug; COMPRESS_TUI_DEBUG=1 shows where"
    output.error(EngineError(f"internal: {type(error).__name__}: {error}", hint=hint))
    return FAILED


def _version() -> str:
    from importlib.metadata import version

    return f"{NAME} {version(NAME)}"


if __name__ == "__main__":
    sys.exit(main())
