"""A store in LDK's own directory layout: one file a value, for LDK to read, and a redo file that keeps groups whole."""
