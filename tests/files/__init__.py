"""Files that the tests read, and the programs that made them."""
