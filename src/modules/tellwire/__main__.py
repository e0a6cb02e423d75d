"""`python -m tellwire` is the command `tellwire`."""

from tellwire.cli import main

main()
