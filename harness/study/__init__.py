"""What the results say. Reads manifests and records only; imports neither torch nor mlflow."""
