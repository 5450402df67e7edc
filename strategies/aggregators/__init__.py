"""How the coordinator learns the result of a round."""
