"""Where the worker writes."""
