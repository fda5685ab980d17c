"""The folder of a sweep: its ledger, which says who runs it and which cells failed, and its job arrays."""
