"""The command line: one module a verb; the only place that sees both sweep and study."""

from harness.cli import interrupt

if interrupt.is_program():
    interrupt.end_at_once()
