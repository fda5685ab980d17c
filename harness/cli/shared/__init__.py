"""What several verbs share: arguments, selection of cells, confirmation, progress."""
