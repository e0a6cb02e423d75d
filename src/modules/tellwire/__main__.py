"""`python -m tellwire` is the command `tellwire`."""

from tellwire.cli.main import main

main()
