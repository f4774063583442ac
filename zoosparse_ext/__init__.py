"""Sparsified twins of whole model zoos.

A zoo is a matrix: one row per model, one column per parameter. Everything here is an operation on rows.
"""
