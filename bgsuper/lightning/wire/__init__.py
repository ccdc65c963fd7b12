"""Messages and encodings of the Lightning wire protocol (BOLTs 1 and 7)."""
