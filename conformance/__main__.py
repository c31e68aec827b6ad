"""`python -m mmrec.conformance` is the command `mmrec`, also where the distribution is not installed."""

from mmrec.conformance.cli import main

main()
