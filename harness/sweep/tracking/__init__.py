"""Records are mirrored to MLflow."""
