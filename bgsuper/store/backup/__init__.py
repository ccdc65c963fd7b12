"""A backup of a store in use: another store, whole by itself, as the first one was between two commits.

    online        copies the database page by page between commits, and says when the backup is complete
    spool         the copy's file as SQLite sees it: memory, until the backup's thread has written it
    destination   DEST.partial, ours alone until it becomes DEST by one rename

Nothing of it is loaded before a backup is asked for.
"""
