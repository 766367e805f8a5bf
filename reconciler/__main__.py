"""`python -m reconciler`: the command line, as the container image starts it."""

from reconciler.cli import main

main()
