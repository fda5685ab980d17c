"""Measurements of training on this machine: step costs, throughput, what a node offers."""
