"""``harness``: declare, plan, sweep, watch, report."""

from __future__ import annotations

import errno
import sys

import typer

from harness.cli import (
    bench,
    cancel,
    doctor,
    evaluate,
    export_encoder,
    gc,
    logs,
    losses,
    plan,
    report,
    retry,
    status,
    sweep,
    sync,
    transfer,
    ui,
    verify,
)
from harness.errors import UserError

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which contrastive losses keep their accuracy at small batch sizes: declare an experiment in one YAML file, "
    "train every cell, read the answer.",
)
for verb in (
    plan.plan,
    sweep.sweep,
    status.status,
    logs.logs,
    cancel.cancel,
    retry.retry,
    report.report,
    verify.verify,
    evaluate.evaluate,
    sync.sync,
    gc.gc,
    export_encoder.export_encoder,
    ui.ui,
    doctor.doctor,
    bench.bench,
    losses.losses,
    losses.check_loss,
):
    app.command()(verb)
app.command("export")(transfer.export)
app.command("import")(transfer.import_)


def main() -> None:
    try:
        app()
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"harness: {error}", file=sys.stderr)
        if error.errno in UNWRITABLE:
            print("  next:    make room or get write access there, or --results OTHER_FOLDER", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # the second Ctrl-C
        print("\nstopped at once; cells stop by themselves at their next step", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
