"""L4: ledger, receipts, League. Empty until operators are served (operator.md)."""
