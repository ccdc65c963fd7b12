"""Crash tests as an instrument: whatever dies, nothing acknowledged is lost, and this package tries to prove otherwise.

explorer/  a simulation of host, pipe, worker, store and disk, explored to the last interleaving
power/     real power cuts, on file systems that are shut down under the store
run/       the real thing with random kills and disk faults, for users: ``bgsuper torture``

Rule: whatever finds a violation keeps the evidence, and says how to see it again.
"""
