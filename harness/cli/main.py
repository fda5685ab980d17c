"""``harness``: declare, plan, sweep, watch, report."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from harness import __version__
from harness.cli.interrupt import interrupt_as_usual
from harness.cli.shared import unwritable
from harness.cli.shared.closed_output import outlived
from harness.environment.gpus import number_as_nvidia_smi
from harness.environment.surroundings import make_fit
from harness.errors import UserError

#: The verbs whose exit code 1 is an answer, which an error must not look like.
ANSWERS = {"verify", "check-loss"}
#: The verbs that write nothing, and end at once at Ctrl-C whatever code of a user's or of torch would catch.
READING = {"losses", "check-loss"}


class Verb(NamedTuple):
    """A verb as ``harness --help`` lists it, and the function of ``harness.cli`` that carries it out."""

    panel: str
    name: str
    function: str
    help: str


DECLARE, WATCH, RESULTS, MACHINE = "Declare and run", "Watch", "Results", "Machine"
#: ``help`` is also the first line of the function's docstring, which ``harness VERB --help`` shows.
VERBS = (
    Verb(DECLARE, "plan", "plan.plan", "Show which cells are missing and what they would cost."),
    Verb(DECLARE, "sweep", "sweep.sweep", "Train every missing cell of an experiment."),
    Verb(DECLARE, "retry", "retry.retry", "Train failed cells again, each from its last checkpoint."),
    Verb(DECLARE, "cancel", "cancel.cancel", "Stop queued and running cells; checkpoints are kept."),
    Verb(DECLARE, "losses", "losses.losses", "List the losses, or describe one of them."),
    Verb(DECLARE, "check-loss", "losses.check_loss", "Test whether a loss has the properties it must have."),
    Verb(WATCH, "status", "status.status", "Show the state of every cell and why cells failed."),
    Verb(WATCH, "logs", "logs.logs", "Show what a cell printed and how its attempts ended."),
    Verb(WATCH, "ui", "ui.ui", "Open the MLflow page of the results."),
    Verb(WATCH, "sync", "sync.sync", "Bring MLflow up to date with the records."),
    Verb(RESULTS, "report", "report.report", "Write tables, plots and a PDF, and print the verdicts."),
    Verb(RESULTS, "verify", "verify.verify", "Judge the claims of an experiment; write nothing."),
    Verb(RESULTS, "evaluate", "evaluate.evaluate", "Evaluate finished cells in another way, without training."),
    Verb(RESULTS, "export-encoder", "export_encoder.export_encoder", "Write a trained encoder for use elsewhere."),
    Verb(RESULTS, "export", "transfer.export", "Write records to one file, to take to another machine."),
    Verb(RESULTS, "fsck", "fsck.fsck", "Read every byte of the results; say what is damaged."),
    Verb(RESULTS, "import", "transfer.import_", "Add the records of such a file to the results."),
    Verb(MACHINE, "doctor", "doctor.doctor", "Check this machine, or a cluster, and say how to fix it."),
    Verb(MACHINE, "bench", "bench.bench", "Measure how fast this machine trains and evaluates."),
    Verb(MACHINE, "gc", "gc.gc", "Remove checkpoints that are no longer needed."),
)


class LazyGroup(TyperGroup):
    """The verbs by name and one line of help; a verb's module is imported when that verb is called.

    So ``harness --help`` and the completion of verbs start without torch, mlflow, pandas and hydra.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for verb in VERBS:
            self.add_command(TyperCommand(verb.name, help=verb.help, rich_help_panel=verb.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The verb of a command line, loaded; in an incomplete line that a shell asks about there may be none."""
        name, listed, rest = super().resolve_command(ctx, args)
        command = listed and load(name)
        if name not in READING:
            interrupt_as_usual()
        return name, command, rest


def load(name: str | None) -> Any:
    """Import the verb's module and return its command."""
    verb = next(verb for verb in VERBS if verb.name == name)
    module, _, function_name = verb.function.partition(".")
    function = getattr(importlib.import_module(f"harness.cli.{module}"), function_name)
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    app = typer.Typer(add_completion=False)
    app.command(verb.name, help="\n\n".join(text.replace("\n", " ") for text in paragraphs))(function)
    return typer.main.get_command(app)


app = typer.Typer(name="harness", cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def harness(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train contrastive losses at small batch sizes and judge what papers claim about them.

    Declare an experiment in one YAML file, train every cell of it, read the answer.
    """


def main() -> None:
    """Run a verb; exit with 2 where it could not do its work, or with 1 where the answer is no, or not all is done."""
    try:
        make_fit()
        number_as_nvidia_smi()
        with outlived(next(iter(sys.argv[1:]), "")):
            app()
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"harness: {error}", file=sys.stderr)
        if remedy := unwritable.remedy(error, sys.argv[1:]):
            print(f"  next:    {remedy}", file=sys.stderr)
        sys.exit(2 if ANSWERS & set(sys.argv[1:2]) else 1)
    except KeyboardInterrupt:  # the second Ctrl-C
        print("\nstopped at once; cells stop by themselves at their next step", file=sys.stderr)
        sys.exit(130)
    except Exception:
        if not ANSWERS & set(sys.argv[1:2]):
            raise
        traceback.print_exc()
        sys.exit(2)


if __name__ == "__main__":
    main()
