"""The command line: parses, calls, prints. What is slow to import is imported where it is used."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from ablations import cli_plan, cli_runs, tables
from ablations.cli_benchmark import benchmark
from ablations.cli_options import FORMATS, from_here, results_folder, results_option
from modernize.errors import RoadmapError, UsageError

if TYPE_CHECKING:
    from ablations.experiment import Experiment
    from ablations.records import Study
    from ablations.site import Site

EXECUTORS = ("auto", "local", "slurm", "debug")
INTERRUPTED = 130  # what a shell reports after Ctrl-C


@click.group(invoke_without_command=True, context_settings={"max_content_width": 100})
@cli_plan.asking_options
@click.option(
    "--name",
    metavar="NAME",
    help="The study's folder in results/.  [default: its own, or for the roadmap the preset's]",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at a time.  [default: one per GPU, or per core up to 8]",
)
@click.option(
    "--skip-bad-images",
    is_flag=True,
    help="Pass over images that cannot be read, and count them; else they stop the run.",
)
@click.option("--tensorboard", is_flag=True, help="Write the metrics for TensorBoard, too.")
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default="auto",
    show_default=True,
    help="Where runs are trained: in the local queue, by SLURM, or in this process for a debugger.",
)
@click.option(
    "--site",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="How your SLURM wants to be asked; ablations/sites/example.yaml explains it.",
)
@results_option
@click.option("--dry-run", is_flag=True, help="Show what would be run and skipped, and stop.")
@cli_plan.speed_options
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
@click.version_option(package_name="convnext-roadmap")
@click.pass_context
def cli(
    ctx: click.Context,
    /,
    dry_run: bool,
    images_per_second: float | None,
    measure: bool,
    jobs: int | None,
    executor: str,
    site: Path | None,
    results: Path | None,
    **options: Any,
) -> None:
    """The road from ResNet to ConvNeXt, one change at a time.

    Without a subcommand: builds, counts and trains every step up to --until, skips what is
    finished, goes on with what was interrupted, and draws the chart.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_given(ctx)
        return
    if (images_per_second or measure) and not dry_run:
        raise UsageError("--images-per-second and --measure go with --dry-run, or with `plan`.")
    from ablations.launch import started_together
    from ablations.site import load_site

    # Of the processes that torchrun starts, the first one speaks.
    console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")
    where = load_site(site)
    results = results or (Path(where.results) if where.results else None)
    experiment = _design(results=results, **options)
    executor, why = _choose(executor, experiment)
    _print_plan(console, experiment, images_per_second, measure)
    if not started_together():
        console.print(f"Executor: {executor}, {why}", soft_wrap=True)
    if jobs is not None:
        where = where.model_copy(update={"max_running": jobs})
    if dry_run:
        if executor == "slurm":
            _print_script(experiment, where)
        console.print("Dry run: nothing was trained or written.")
    elif started_together():
        _run_together(console, experiment)
    elif executor == "slurm":
        _submit(console, experiment, where)
    elif executor == "debug":
        _debug(console, experiment)
    else:
        _run(console, experiment, jobs)


def _choose(executor: str, experiment: Experiment) -> tuple[str, str]:
    """Returns the executor that trains the runs, and why it is that one."""
    from ablations.scheduler import check_usable, find_slurm

    if executor == "slurm":
        check_usable()
    if executor != "auto":
        return executor, "as asked for"
    if not experiment.preset.cluster:
        return "local", "for the preset is not made for a cluster"
    missing = find_slurm()
    return ("local", f"for {missing}") if missing else ("slurm", "whose controller answers")


def _refuse_given(ctx: click.Context) -> None:
    """Refuses the main job's options in front of a subcommand, where they would do nothing."""
    given = _given(ctx)
    if given:
        raise click.UsageError(
            f"{', '.join(given)} stands before a subcommand and belongs to the main job; "
            "put a subcommand's own options after its name."
        )


def _given(ctx: click.Context) -> list[str]:
    """Returns the options that were typed, by their names."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.expose_value
        and parameter.name
        and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]


def _design(
    *,
    name: str | None,
    skip_bad_images: bool,
    tensorboard: bool,
    results: Path | None,
    **asking: Any,
) -> Experiment:
    from ablations import experiment

    asked = cli_plan.resolve(**asking)
    return experiment.design(
        results_folder(results) / experiment.study_name(name, asked.folder),
        asked.preset,
        asked.comparison,
        asked.variants,
        asked.seeds,
        skip_bad_images=skip_bad_images,
        tensorboard=tensorboard,
    )


def _print_plan(
    console: Console, experiment: Experiment, images_per_second: float | None, measure: bool
) -> None:
    from ablations import counting

    study, planned = experiment.study, experiment.planned
    rows, reference = experiment.rows()
    speed = cli_plan.find_speed(
        rows, reference, study.preset, experiment.comparison, images_per_second, measure
    )
    costs = {row.key: row for row in (counting.timed(rows, speed) if speed else rows)}
    images = study.manifest["images"]
    console.print(
        f"Study {study.name}: {study.preset.title}; regime {study.manifest['regime']}; "
        f"{images['train_images']:,} training and {images['val_images']:,} validation images",
        soft_wrap=True,
    )
    texts = []
    for p in planned:
        row = costs[p.run.key]
        text = {
            "step": p.run.key,
            "seed": str(p.run.seed),
            "parameters": f"{p.cost.params:,}",
            "MFLOPs": f"{p.cost.flops / 1e6:.2f}",
            "of base": counting.times(row.times),
            "epochs": str(p.run.recipe.epochs),
            "recipe": str(p.variant.training),
        }
        if row.hours is not None:
            text["hours"] = counting.hours(row.hours * p.share_left)
        texts.append({**text, "what will be done": p.state})
    right = ("seed", "parameters", "MFLOPs", "of base", "epochs", "hours")
    tables.print_table(console, texts, right=right)
    for line in experiment.cautions():
        console.print(f"Note: {line}", soft_wrap=True)
    for line in cli_plan.notes(list(costs.values()), reference, experiment.comparison):
        console.print(line, markup=False, soft_wrap=True)
    work = sum(costs[p.run.key].work * p.share_left for p in experiment.needed)
    console.print(
        f"{len(experiment.needed)} of {len(planned)} runs to do, "
        f"{work / 1e12:,.1f} tera-multiply-accumulates in all",
        soft_wrap=True,
    )
    if speed:
        left = sum((costs[p.run.key].hours or 0) * p.share_left for p in experiment.needed)
        console.print(cli_plan.in_all(left, speed), markup=False, soft_wrap=True)


def _run(console: Console, experiment: Experiment, jobs: int | None) -> None:
    from ablations import launch
    from ablations.progress import follow

    study = experiment.study
    study.write()
    needed = experiment.needed
    with launch.only_one(study.folder):
        if needed:
            launch.get_ready()
        slots = launch.find_slots(len(needed), jobs)
        if needed:
            console.print(
                f"Training on {', '.join(dict.fromkeys(s.device for s in slots))}: {len(slots)} at "
                f"a time, {slots[0].threads} thread(s) each",
                soft_wrap=True,
            )
        try:
            with contextlib.closing(experiment.run(slots)) as ticks:
                follow(ticks, len(needed), console)
        except KeyboardInterrupt:
            _collect(console, study)
            console.print(
                "Interrupted. What is finished is kept; the same command goes on from the last "
                "checkpoints.",
                style="bold",
                soft_wrap=True,
            )
            raise SystemExit(INTERRUPTED) from None
    _conclude(console, experiment)


def _print_script(experiment: Experiment, site: Site) -> None:
    from ablations import slurm
    from ablations.freeze import place_of

    jobs, study = experiment.jobs(), experiment.study
    if jobs:
        folder = study.folder.absolute()
        click.echo(f"\n{slurm.script(folder, place_of(folder), jobs, site)}")


def _submit(console: Console, experiment: Experiment, site: Site) -> None:
    """Hands what is needed to SLURM, and ends."""
    from ablations import launch, slurm
    from ablations.freeze import freeze

    study = experiment.study
    study.write()
    with launch.only_one(study.folder):
        experiment = experiment.anew()  # what another process submitted a moment ago is out of it
        jobs = experiment.jobs()
        if not jobs:
            console.print("Nothing to submit.")
            return
        folder = study.folder.absolute()
        submissions = slurm.submit(folder, freeze(folder), jobs, site)
    numbers = ", ".join(s.jobs or "?" for s in submissions)
    commit = submissions[0].commit
    console.print(
        f"Submitted {len(jobs)} run(s) as SLURM job {numbers}, at most {site.max_running} at a "
        f"time, {site.processes} process(es) each; the program as it is now"
        + (
            f" (commit {commit[:10]}{', with changes' if submissions[0].dirty else ''})."
            if commit
            else "."
        ),
        soft_wrap=True,
    )
    console.print(
        f"Come back with: run_roadmap.py status --name {study.name}   (or logs, collect, cancel)",
        markup=False,
        soft_wrap=True,
    )


def _debug(console: Console, experiment: Experiment) -> None:
    """Trains what is needed in this process."""
    from ablations import launch
    from ablations.progress import label, outcome

    experiment.study.write()
    with launch.only_one(experiment.study.folder):
        for job, record in experiment.run_here(launch.find_slots(1)[0]):
            console.print(f"{label(job)}: {outcome(record)}", markup=False, soft_wrap=True)
    _conclude(console, experiment)


def _run_together(console: Console, experiment: Experiment) -> None:
    """Trains in all processes that torchrun started; the first one writes and speaks."""
    from ablations.progress import label, outcome

    if not console.quiet:
        experiment.study.write()
    for job, record in experiment.run_together():
        console.print(f"{label(job)}: {outcome(record)}", markup=False, soft_wrap=True)
    if not console.quiet:
        _conclude(console, experiment)


def _conclude(console: Console, experiment: Experiment) -> None:
    """Collects the records, and says loudly which runs did not finish."""
    from ablations.launch import RunsFailedError
    from ablations.progress import outcome
    from ablations.records import Status

    _collect(console, experiment.study)
    ends = [(p, p.folder.read_record()) for p in experiment.planned]
    bad = [(p, r) for p, r in ends if r and r.status is not Status.FINISHED]
    for p, record in bad:
        line = f"{p.run.key}, seed {p.run.seed}: {outcome(record)}"
        console.print(line, style="bold red", markup=False, soft_wrap=True)
    failed = [p for p, r in bad if r.status is Status.FAILED]
    if failed:
        raise RunsFailedError(
            f"{len(failed)} of {len(ends)} runs failed; the logs named above say more. "
            "The same command tries them again."
        )


def _collect(console: Console, study: Study) -> None:
    """Writes a study's table and chart from its records, and prints the table."""
    from ablations import chart
    from ablations.figures import study_figure
    from ablations.report import summary_path, write_summary

    table = write_summary(study)
    written = [summary_path(study)]
    figure = study_figure(study, summary=table)
    written += [chart.save(figure, study.folder / f"roadmap.{kind}") for kind in ("png", "svg")]
    _print_summary(console, table)
    console.print("Wrote " + ", ".join(map(from_here, written)), soft_wrap=True)


def _print_summary(console: Console, table: Any) -> None:
    from ablations.report import format_summary

    tables.print_table(
        console, format_summary(table), right=("n", "top-1", "change", "top-5", "MFLOPs", "seconds")
    )


cli.add_command(cli_plan.plan)


@cli.command()
@click.argument("step", required=False)
@click.option("--regime", default="resnet50", show_default=True, metavar="NAME")
def steps(step: str | None, regime: str) -> None:
    """List the steps and what each changes, or show the network of one STEP."""
    from ablations.studies import describe_step, step_rows

    console = Console(highlight=False)
    if step is None:
        tables.print_table(console, step_rows(regime), right=("index",))
    else:
        console.print(describe_step(step, regime), markup=False, soft_wrap=True)


@cli.command()
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    metavar="NAME",
    default=["resnet50"],
    show_default=True,
    help="resnet50, resnet200 or nano; may be repeated.",
)
@click.option("--until", "last", metavar="STEP", help="Last step wanted: its key or index.")
@click.option("--step", metavar="STEP", help="One step's breakdown by operator and by module.")
@click.option(
    "--image-size", type=click.IntRange(min=1), metavar="PIXELS", help="[default: the regime's]"
)
@click.option(
    "--models",
    is_flag=True,
    help="The paper's models instead of the steps, from ResNet-50 to ConvNeXt-XL, and Swin.",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@click.pass_context
def flops(
    ctx: click.Context,
    /,
    regimes: tuple[str, ...],
    last: str | None,
    step: str | None,
    image_size: int | None,
    models: bool,
    style: str,
) -> None:
    """Count parameters and FLOPs of the steps or the models, and set them beside the paper's."""
    from ablations import costs
    from ablations.studies import roadmap
    from modernize.steps import find_regime

    console = Console(highlight=False)
    if models:
        given = [name for name in _given(ctx) if name not in ("--models", "--format")]
        if given:
            raise click.UsageError(
                f"{', '.join(given)} does not go with --models, which counts each model at the "
                "image sizes that the paper's tables have."
            )
        _print_models(console, style)
        return
    chosen = [find_regime(name) for name in regimes]
    if step is not None:
        for regime in chosen:
            click.echo(costs.step_breakdown(step, regime, image_size or regime.image_size))
        return
    counted = [
        costs.cost_rows(roadmap(r.name, last=last), r, image_size or r.image_size) for r in chosen
    ]
    if style in ("csv", "json"):
        render = tables.as_csv if style == "csv" else tables.as_json
        click.echo(render([costs.as_values(row) for rows in counted for row in rows]))
        return
    for regime, rows in zip(chosen, counted, strict=True):
        size = image_size or regime.image_size
        title = f"{regime.start} to {regime.end} at {size} x {size}"
        if style == "markdown":
            click.echo(f"{title}\n\n{costs.as_markdown(rows)}\n")
            continue
        tables.print_table(console, [costs.as_texts(row) for row in rows], costs.NUMBERS, title)
        for note in costs.footnotes(rows):
            console.print(note, markup=False, soft_wrap=True)


def _print_models(console: Console, style: str) -> None:
    """Prints what the paper's models cost."""
    from ablations import model_costs

    rows = model_costs.model_rows()
    if style in ("csv", "json"):
        render = tables.as_csv if style == "csv" else tables.as_json
        click.echo(render(model_costs.as_values(rows)))
        return
    texts = [model_costs.as_texts(row) for row in rows]
    if style == "markdown":
        click.echo(f"{tables.as_markdown(texts, model_costs.NUMBERS)}\n")
    else:
        tables.print_table(console, texts, model_costs.NUMBERS)
    for note in model_costs.footnotes(rows):
        click.echo(note if style == "table" else "- " + note.replace("*", r"\*"))


@cli.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="paper|STUDY",
    help="The published tables, or a study of ours.",
)
@click.option("--second", metavar="STUDY", help="Another study, as grey bars.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, .svg or .pdf file; may be repeated.  "
    "[default: roadmap.png and .svg in the source's folder]",
)
@results_option
def plot(source: str, second: str | None, outputs: tuple[Path, ...], results: Path | None) -> None:
    """Draw the roadmap chart."""
    from ablations import chart, figures

    folder = results_folder(results) / source
    if source == "paper":
        if second is not None:
            raise UsageError("--second goes with a study; the paper's chart has both regimes.")
        figure = figures.paper_figure()
    else:
        figure = figures.study_figure(
            _open(source, results), _open(second, results) if second else None
        )
    for path in outputs or [folder / "roadmap.png", folder / "roadmap.svg"]:
        click.echo(f"Wrote {from_here(chart.save(figure, path))}")


def study_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--name`` and ``--results``."""
    return click.option(
        "--name", metavar="STUDY", help="Which study.  [default: the one launched last]"
    )(results_option(command))


@cli.command()
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@study_option
def collect(name: str | None, style: str, results: Path | None) -> None:
    """Make a study's table, summary.csv and chart from its records as they are now."""
    from ablations.report import format_summary, read_summary

    study = cli_runs.find_study(name, results)
    if style == "table":
        _collect(Console(highlight=False), study)
        return
    table = read_summary(study)
    if style == "csv":
        click.echo(table.to_csv(index=False, float_format="%.4f"), nl=False)
    elif style == "json":
        click.echo(table.to_json(orient="records", indent=1))
    else:
        click.echo(tables.as_markdown(format_summary(table)))


@cli.command()
@click.argument("source", required=False, metavar="[STUDY|paper]")
@click.option("--regime", metavar="NAME", help="Of the paper's tables.  [default: resnet50]")
@click.option(
    "--against",
    default="parent",
    show_default=True,
    metavar="parent|STEP",
    help="What each step is compared with: the one it builds on, or always the same.",
)
@click.option(
    "--best-epoch",
    is_flag=True,
    help="Take the best of all epochs, which is optimistic, instead of the last.",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@study_option
def compare(
    source: str | None,
    regime: str | None,
    against: str,
    best_epoch: bool,
    style: str,
    name: str | None,
    results: Path | None,
) -> None:
    """Test which changes stand out from the noise, in a study or in the paper's own figures."""
    from ablations import cli_compare

    if source is not None and name is not None:
        raise UsageError("name the study once, as STUDY or with --name.")
    samples = cli_compare.find(source or name, regime, results, best_epoch=best_epoch)
    cli_compare.show(Console(highlight=False), samples, against, style)


@cli.command()
@click.argument("source", required=False, metavar="[STUDY]")
@click.option(
    "--best-epoch",
    is_flag=True,
    help="Take the best of all epochs, which is optimistic, instead of the last.",
)
@study_option
def report(source: str | None, best_epoch: bool, name: str | None, results: Path | None) -> None:
    """Write a study as one HTML page, and as Markdown: chart, tables, curves, what failed."""
    from ablations import cli_report

    if source is not None and name is not None:
        raise UsageError("name the study once, as STUDY or with --name.")
    study = cli_runs.find_study(source or name, results)
    page, text = cli_report.write(study, best_epoch=best_epoch)
    click.echo(f"Wrote {from_here(page)}, {from_here(text)}")


@cli.command()
@click.option("--watch", is_flag=True, help="Refresh until nothing waits or runs.")
@click.option("--every", type=float, default=5.0, show_default=True, metavar="SECONDS")
@study_option
def status(name: str | None, watch: bool, every: float, results: Path | None) -> None:
    """Show how every run of a study stands."""
    study = cli_runs.find_study(name, results)
    cli_runs.show_status(Console(highlight=False), study, every if watch else None)


@cli.command()
@click.argument("step")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@study_option
def logs(step: str, seed: int, follow: bool, name: str | None, results: Path | None) -> None:
    """Print the log of one STEP's run."""
    cli_runs.show_log(cli_runs.find_study(name, results), step, seed, follow=follow)


@cli.command()
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@study_option
def cancel(steps: tuple[str, ...], name: str | None, results: Path | None) -> None:
    """Have SLURM end a study's jobs, or only those of some STEPs; launching it again goes on."""
    study = cli_runs.find_study(name, results)
    cancelled = cli_runs.cancel_runs(study, steps)
    for state in cancelled:
        click.echo(
            f"{state.run.key}, seed {state.run.seed}: {state.state} job {state.job} cancelled"
        )
    click.echo(f"{len(cancelled)} job(s) of {study.name} cancelled.")


@cli.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--to", "layout", metavar="LAYOUT", help="torchvision, timm, timm-conv-mlp, official or ours."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to write: .safetensors, or .pth or .pt for torch's format.",
)
@click.option("--ema", is_flag=True, help="Take the moving average that the file has besides.")
@click.option(
    "--layers",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The Python file of the network's own layers, where it has any; it is run.",
)
def convert(
    source: Path, layout: str | None, output: Path | None, ema: bool, layers: Path | None
) -> None:
    """Tell what a checkpoint FILE is, and write it as another implementation has it.

    FILE is of torchvision, timm, the official ConvNeXt or ours; or it is the folder of a run.
    """
    from ablations import cli_convert

    if (layout is None) != (output is None):
        raise UsageError("--to LAYOUT and --output FILE go together; without both, FILE is told.")
    if layout is not None and output is not None:
        cli_convert.check_output(source, layout, output)
    weights = cli_convert.read(source, ema=ema, layers=layers)
    click.echo("\n".join(cli_convert.describe(source, weights)))
    if layout is not None and output is not None:
        click.echo(cli_convert.write(weights, layout, output))


@cli.command()
@click.option(
    "--weights",
    metavar="FILE|torchvision",
    help="A checkpoint of torchvision, timm, the official ConvNeXt or ours; or have torchvision "
    "fetch its own. Without it: a finished run's.",
)
@click.option("--step", metavar="STEP", help="Which step it is; by default the weights tell.")
@click.option("--regime", default="resnet50", show_default=True, metavar="NAME")
@click.option("--ema", is_flag=True, help="Take the moving average that the file has besides.")
@click.option(
    "--data",
    metavar="FOLDER",
    help="Validation images, in folders named by ImageNet's synsets; a run's: as its preset says.",
)
@click.option("--image-size", type=click.IntRange(min=1), default=224, show_default=True)
@click.option(
    "--resize",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Shorter side before the centre crop.  [default: 256 for 224; from 384 on, as large]",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="auto: the fastest that the device has.  [default: fp32; a run's: as it was trained]",
)
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Processes that decode images."
)
@click.option("--skip-bad-images", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@study_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    weights: str | None,
    data: str | None,
    name: str | None,
    results: Path | None,
    style: str,
    **options: Any,
) -> None:
    """Evaluate weights on ImageNet's validation images, or a finished run of ours on its own."""
    from ablations import launch

    launch.wait_passively()
    from ablations import cli_evaluate

    _refuse_others(ctx, of_weights=weights is not None)
    if weights is not None and data is None:
        raise UsageError("--weights needs --data: the folder of the validation images.")
    if weights is None and options["step"] is None:
        raise UsageError("say what to evaluate: --weights FILE --data FOLDER, or a run's --step.")
    asked = cli_evaluate.Options(**options)
    if weights is not None and data is not None:
        evaluated = cli_evaluate.of_weights(weights, Path(data), asked)
    else:
        evaluated = cli_evaluate.of_run(cli_runs.find_study(name, results), data, asked)
    json = style == "json"
    click.echo(tables.as_json([evaluated.values()]) if json else "\n".join(evaluated.lines()))


def _refuse_others(ctx: click.Context, *, of_weights: bool) -> None:
    """Refuses options of `evaluate` that say nothing of what is evaluated."""
    mine = {True: ("name", "results", "seed"),
            False: ("regime", "ema", "image_size", "resize", "batch_size", "workers")}  # fmt: skip
    given = [
        f"--{name.replace('_', '-')}"
        for name in mine[of_weights]
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        what = "a run, not of --weights" if of_weights else "--weights, not of a run"
        raise UsageError(f"{', '.join(given)}: an option of {what}; leave it away.")


cli.add_command(benchmark)


def _open(name: str, results: Path | None) -> Study:
    from ablations.records import Study

    return Study.open(results_folder(results) / name)


def main() -> None:
    """Runs the command line; an error of ours becomes one message and an exit status."""
    debug = "--debug" in sys.argv
    try:
        status = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except RoadmapError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_status) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; nothing was lost.", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        raise SystemExit(0) from None
    raise SystemExit(status or 0)
