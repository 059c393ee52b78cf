"""Synthetic crowds with exact joints."""
