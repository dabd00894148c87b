"""Join on source_id, clean, split; fixed-width Parquet tables; batches with presence masks."""
