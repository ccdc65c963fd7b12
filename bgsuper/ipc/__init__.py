"""What host and worker share: the pipe between them, and nothing that only one of them needs.

    frames      bytes -> whole frames; knows nothing of what they mean
    messages    frames -> messages with payloads of any size; commits
    config      the first message: what the worker is to open
    remote      exceptions, told by the worker and raised in the host

All of it is sans-IO and total: a peer's bytes give values or `FrameError`, in bounded memory.
"""
