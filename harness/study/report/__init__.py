"""The report of an experiment: its text, tables, figures and PDF."""
