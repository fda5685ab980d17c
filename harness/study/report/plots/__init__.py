"""Figures of a report. Every one has units, says what is missing, and can be read in grey and by the colour-blind."""
