"""Poses in images and videos."""
