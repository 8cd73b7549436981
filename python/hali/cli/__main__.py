"""`python -m hali.cli` is `hali`."""

from hali.cli.main import main

main()
