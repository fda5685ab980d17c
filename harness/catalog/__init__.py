"""Names, parameters, ranges, properties and versions of losses, methods and backbones; no torch.

A component's ``version`` is part of every identity that uses it. Raise it by hand when the component's
numbers change: cells trained before then no longer stand for the declared ones.
"""

LR_RULES = ("constant", "linear", "sqrt")
PRECISIONS = ("fp32", "bf16")
HEAD_NORMS = ("hidden", "all", "none")

# Numbers also depend on how data are read, how views are drawn and how the loop steps.
VIEWS_VERSION = 2
TRAINING_VERSION = 1
