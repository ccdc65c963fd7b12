"""Bugs planted on purpose, to see that the tests catch them: ``python -m tests.planted``.

A test that cannot fail is worth nothing. Each bug here breaks one rule of the supervisor's in one place, and names the
few tests that hold that rule; they must pass without it and fail with it. `bugs` is the table, `plant` sows and looks.
"""
