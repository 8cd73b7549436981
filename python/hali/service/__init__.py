"""L6: OS service managers, doctor, update (operator.md)."""
