"""Hydra groups: dataset/ views/ backbone/ head/ method/ optimizer/ evaluate/ cluster/."""
