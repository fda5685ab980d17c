"""The mirror of a sweep's records in MLflow."""
