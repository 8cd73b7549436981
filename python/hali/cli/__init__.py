"""L7: the `hali` command, one module per command group, imported only when it is used."""
