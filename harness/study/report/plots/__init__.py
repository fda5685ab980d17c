"""The figures of a report: each has units, says what is missing, and can be read in grey and by the colour-blind."""
