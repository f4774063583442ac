"""Populations of networks: the matrix, its columns, training and evaluation."""
