"""Bad input: whatever reads bytes from outside is given bytes that nobody wrote.

mutator   a byte mutator: flips, cuts, splices, boundary integers, lengths that lie
parsers   frames, messages, records and names, and what they may do about such bytes
stores    a store's files, cut, flipped, missing and swapped, and what opening them may do

By command: ``python -m bgsuper.torture.mutate --inputs 1000000 --seed 1``. A finding is printed with its input.
"""
