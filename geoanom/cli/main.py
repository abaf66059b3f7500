"""The command group, and what happens to errors."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from importlib.metadata import version
from typing import Any

import click

from geoanom.errors import ExitCode, GeoanomError, one_line

COMMANDS = {
    "detect": "run:detect",
    "fit": "run:fit",
    "score": "run:score",
    "archive": "archive:archive",
    "change": "change:change",
    "monitor": "monitor:monitor",
    "export": "export:export",
    "report": "report:report",
    "evaluate": "evaluate:evaluate",
    "benchmark": "benchmark:benchmark",
    "pretrain": "pretrain:pretrain",
    "info": "info:info",
    "list": "listing:list_parts",
    "doctor": "doctor:doctor",
}
"""Command to ``module:attr`` below `geoanom.cli`; a command is imported when it is asked for."""

SUMMARIES = {
    "detect": "Fit on scenes, score them, and write one anomaly layer.",
    "fit": "Train and freeze a model.",
    "score": "Score scenes with a frozen model.",
    "archive": "Score whole archives, resumable, on one machine or a cluster.",
    "change": "Find what became different between two dates.",
    "monitor": "Watch places, and tell once what is really there.",
    "export": "Write a layer in another format.",
    "report": "Write a layer as one page to look at and to review.",
    "evaluate": "Compare a layer or a heatmap with the truth.",
    "benchmark": "Measure geoanom and other methods where the truth is known.",
    "pretrain": "Learn the embedding head that all archives share.",
    "info": "Tell what a scene or a model is.",
    "list": "List backbones, detectors, exporters or sources.",
    "doctor": "Say what is available, on which device, how fast.",
}


class LazyGroup(click.Group):
    """A group whose help needs none of its commands' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attr = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"geoanom.cli.{module}"), attr)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when one is unknown."""
        from geoanom.registry import unknown

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="geoanom", message=f"geoanom {version('geoanom')}")
def cli() -> None:
    """Find what does not belong in satellite imagery, and say where on the map it is.

    Inputs come first, -o/--output last. Exit codes: 0 done, 1 bug, 2 usage or settings, 3 some scenes failed, 4 bad or refused input,
    5 output not written, 6 another run holds the lock, 10 anomalies found (with --exit-code).
    """


def main(argv: list[str] | None = None) -> None:
    """Run a command and leave with its exit code; errors take one line on stderr."""
    arguments = sys.argv[1:] if argv is None else argv
    verbosity = sum(len(a) - 1 if a.startswith("-v") else 1 for a in arguments if a == "--verbose" or (a.strip("v") == "-" and a != "-"))
    _set_up_logging(verbosity)
    try:
        result = cli.main(arguments, prog_name="geoanom", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(int(result) if isinstance(result, int) else ExitCode.DONE)
    except GeoanomError as error:
        _fail(str(error), error.exit_code, verbosity)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(ExitCode.USAGE)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "geoanom"
        _fail(f"{where}: {one_line(error.format_message())}; see {where} --help", ExitCode.USAGE, verbosity)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing was left half-written", 130, verbosity)
    except BrokenPipeError:  # nobody reads on; what is left must not be complained about when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)
    except MemoryError:
        _fail("out of memory; choose fewer --bands or a smaller embed.batch_size", ExitCode.BUG, verbosity)
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be given its one line
        _fail(f"bug: {type(error).__name__}: {one_line(str(error))}; run again with -vv and report it", ExitCode.BUG, verbosity)


def _fail(message: str, code: int, verbosity: int) -> None:
    click.echo(f"geoanom: error: {message}", err=True)
    if verbosity >= 2:
        traceback.print_exc()
    sys.exit(code)


def _set_up_logging(verbosity: int) -> None:
    level = logging.DEBUG if verbosity >= 2 else logging.INFO if verbosity else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="geoanom: %(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    logging.getLogger("geoanom").setLevel(level)
    for noisy in ("rasterio", "rasterio._env", "rasterio._err"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def echo_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    import json

    click.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str))
