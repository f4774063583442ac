"""Whole studies: the stages from a data set to a report, each of which can be interrupted and taken up again."""
