"""Preparation of raw data sets, and the stand-in that takes their place."""
