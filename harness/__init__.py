"""Which contrastive losses keep their accuracy at small batch sizes: declare, train, report."""

__version__ = "0.1.0"
