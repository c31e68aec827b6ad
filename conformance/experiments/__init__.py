"""Experiments."""
def run_all(profile): return []
