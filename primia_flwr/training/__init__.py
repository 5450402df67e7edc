"""Training and evaluation of one model on one machine's images; nothing of Flower in it."""
