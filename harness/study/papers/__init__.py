"""Numbers that papers and other code bases report, each with its source."""
