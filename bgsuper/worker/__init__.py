"""The child process: reads what the host submits, makes it durable, says so.

    socket -> reader thread -> Inbox -> writer (main thread) -> store -> ACK
                                 ^  |
                                 |  `-> snapshot lane (thread): a snapshot's file, written and synced
                                 `------- ... and back, to be adopted in the order of commits

Commits run on the main thread, since psutil shows a process by its main thread's state. The reader always drains the
socket, so that what the host submitted survives the host. It imports ipc and store only, and so starts small.
"""
