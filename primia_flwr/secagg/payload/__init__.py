"""The numbers of a secure sum: vectors of reals, named integers, and their masks."""
