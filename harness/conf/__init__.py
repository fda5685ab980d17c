"""Hydra groups: dataset/ backbone/ method/ optimizer/ evaluate/ cluster/."""
