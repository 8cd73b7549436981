"""L5: relay server and operator client. Empty until operators are served (operator.md)."""
