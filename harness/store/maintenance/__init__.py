"""Work on all records of a folder: they are packed into an archive, checked for damage (fsck), and repaired."""
