"""A corpus of any size on disk: ArrayRecord shards with a Parquet index, a memory map, and windows drawn from it."""
