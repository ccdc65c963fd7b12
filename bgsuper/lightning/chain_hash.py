"""Which chain a message speaks of: the hash of its genesis block, in the byte order of a block header.

BOLT 0 (glossary) and BOLT 7 give Bitcoin's. This is the reverse of what block explorers print.
"""

from __future__ import annotations

from typing import Final

MAINNET: Final = bytes.fromhex("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000")
TESTNET: Final = bytes.fromhex("43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000")
SIGNET: Final = bytes.fromhex("f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000")
REGTEST: Final = bytes.fromhex("06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f")
