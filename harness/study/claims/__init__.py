"""The judgement of a paper's claims: measures, comparisons, decisions, verdicts."""
