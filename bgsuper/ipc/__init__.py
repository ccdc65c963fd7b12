"""What host and worker share: frames, messages, and exceptions that cross the pipe."""
