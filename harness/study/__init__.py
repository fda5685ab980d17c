"""Turns results into verdicts and reports. Reads manifests and records; imports neither torch nor mlflow."""
