"""An experiment file that trains in seconds."""

from __future__ import annotations

TINY = """
defaults:
  - schema
  - dataset: digits
  - backbone: convnet
  - method: simclr
  - optimizer: sgd
  - evaluate: solo_learn
  - cluster: local
  - _self_
title: A tiny study
question: Is DCL more robust?
scale: demo
backbone:
  width: 4
axes:
  loss: [infonce, dcl]
  batch_size: [64, 256]
  temperature: [0.1]
  epochs: [1]
  seed: [0, 1, 2]
claims:
  - name: dcl-robust
    says: DCL loses less accuracy than InfoNCE when the batch shrinks.
    source: nowhere
    measure: drop
    arms: [loss=dcl, loss=infonce]
    over: batch_size
scales:
  demo: {}
  wide:
    backbone.width: 8
  big:
    backbone: resnet18
    axes:
      epochs: [2]
"""
