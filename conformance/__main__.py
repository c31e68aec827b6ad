"""`python -m mmrec.conformance` is `mmrec`."""

from mmrec.conformance.cli import main

main()
