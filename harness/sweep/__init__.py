"""How cells get run. Knows Cell, Record and Manifest; enters ssl through the command that computes one record."""
