"""An experiment file becomes a validated declaration."""
