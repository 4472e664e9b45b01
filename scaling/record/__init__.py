"""Run records, content hashes, tables, progress, and the artifact store with leases."""
