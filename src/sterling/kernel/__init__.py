"""Facts and their proof: ledger, blobs, records, contracts, leases, keys."""
