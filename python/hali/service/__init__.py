"""L6: OS service managers, doctor, update. Empty until hali stays up by itself (operator.md)."""
