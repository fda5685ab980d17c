"""``harness plan``: what a sweep would run and what that would cost."""

from __future__ import annotations

from pathlib import Path

from harness.cli.arguments import Experiment, Overrides, Plugin, Results


def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    plugin: Plugin = None,
) -> None:
    """Show the cells of an experiment by state and what the missing ones would cost; runs nothing.

    The cost comes from steps measured on this machine, remembered for the next time.
    """
    from rich.console import Console
    from rich.table import Table

    from harness.cli.arguments import command, short_names
    from harness.cli.declared import load
    from harness.cli.summary import hours, states

    declared = load(experiment, overrides or [], results, plugins=plugin or [])
    print(f"{declared.manifest.name}: {states(declared.plan.counts())}")
    for path, values in declared.manifest.axes.items():
        print(f"  {path:18} {', '.join(str(value) for value in values)}")
    missing = declared.plan.to_run()
    if not missing:
        print("Nothing is missing.")
        return
    arms: dict[str, list[int]] = {}
    for entry in declared.plan.entries:
        arm = short_names(entry.axes, [path for path in declared.manifest.varying if path != "seed"]) or "all"
        done, total = arms.setdefault(arm, [0, 0])
        arms[arm] = [done + (entry.state == "finished"), total + 1]
    table = Table("arm", "finished", box=None, pad_edge=False)
    for arm, (done, total) in arms.items():
        table.add_row(arm, f"{done} of {total}")
    Console().print(table)
    slots = declared.slots
    print(
        f"To run: {len(missing)} cells, about {hours(declared.hours(missing))} on this machine "
        f"({slots.count} at a time, {slots.threads} thread{'s' if slots.threads > 1 else ''} each, {slots.device})."
    )
    print(f"Next:   {command('sweep', [experiment, *(overrides or [])], results, plugins=plugin or [])}")
