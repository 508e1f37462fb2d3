"""The packs. They do not import each other; they meet through records in the ledger."""
