"""Turns results into verdicts and reports; it reads manifests and records only, and imports neither torch nor mlflow."""
