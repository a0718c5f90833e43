"""The command line as a whole; each command is a file of :mod:`ablations.commands`."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Any

import click

from ablations import terminal
from ablations.commands import (
    benchmark,
    collect,
    compare,
    convert,
    evaluate,
    flops,
    launch,
    plan,
    plot,
    predict,
    report,
    robustness,
    runs,
    shell,
    steps,
)
from ablations.commands.launch import launching_options
from ablations.commands.options import given_parameters
from ablations.commands.parameters import StrictGroup
from modernize.errors import RoadmapError


@click.group(
    cls=StrictGroup,
    invoke_without_command=True,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@launching_options
@click.version_option(package_name="convnext-roadmap")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Rerun the ablation that turns a ResNet into a ConvNeXt, one change at a time.

    Without a command: train every step of a study (with --until STEP, up to that step), print the
    table and draw the chart. Finished runs are skipped, interrupted ones continue from their last
    checkpoint.
    """
    if ctx.invoked_subcommand is None:
        launch.launch(**options)
    elif given := given_parameters(ctx):
        raise click.UsageError(
            f"{', '.join(given)} comes before a command, but is an option of the main job; put "
            "the options of a command after its name."
        )


for command in (
    plan.plan,
    steps.steps,
    flops.flops,
    plot.plot,
    collect.collect,
    compare.compare,
    report.report,
    runs.status,
    runs.logs,
    runs.cancel,
    convert.convert,
    evaluate.evaluate,
    predict.predict,
    robustness.robustness,
    benchmark.benchmark,
):
    cli.add_command(command)


def main() -> None:
    """Runs the command line; a known error becomes one message and an exit status."""
    debug = "--debug" in sys.argv
    try:
        shell.prepare()
        status = cli(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        terminal.echo(shown.getvalue(), err=True, nl=False)
        raise SystemExit(error.exit_code) from None
    except RoadmapError as error:
        if debug:
            terminal.echo(traceback.format_exc(), err=True, nl=False)
        terminal.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_status) from None
    except (KeyboardInterrupt, click.Abort) as error:
        # click makes one exception of Ctrl-C and of a file that ends too early.
        stop = error.__cause__ if isinstance(error, click.Abort) else error
        if isinstance(stop, EOFError):
            raise stop from None
        terminal.echo(f"{shell.describe(stop)}; nothing was lost.", err=True)
        raise SystemExit(shell.exit_status(stop)) from None
    except terminal.OutputError as error:
        if error.reader_is_gone:  # as `| head` is when it has seen enough
            raise SystemExit(0) from None
        terminal.echo(f"Error: {error}.", err=True)
        raise SystemExit(1) from None
    except OSError as error:  # such as a name that is too long, or a folder that may not be read
        if debug:
            terminal.echo(traceback.format_exc(), err=True, nl=False)
        where = (
            f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        )
        terminal.echo(f"Error: {where}{error.strerror or error}.", err=True)
        raise SystemExit(1) from None
    raise SystemExit(status or 0)
