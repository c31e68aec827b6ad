"""How fast is each implementation, next to what the machine allows? ``pytest benchmarks/`` answers; README.md explains.

It times only what the judge passed, and it checks no values itself.
"""
