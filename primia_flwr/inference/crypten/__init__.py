"""CrypTen's own protocols on our connections."""
