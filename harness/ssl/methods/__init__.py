"""Methods: what is encoded and what is compared with what."""
