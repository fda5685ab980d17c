"""The report: its text, tables, figures and PDF."""
