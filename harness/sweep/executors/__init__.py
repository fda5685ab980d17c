"""Where cells run: this machine now, a scheduler later."""
