"""Scores of networks and results files."""
