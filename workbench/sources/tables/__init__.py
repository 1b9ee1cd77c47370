"""Tables of rows in CSV, JSON, JSONL, YAML or Parquet, read with a mapping."""
