"""What classification consists of: loss, scores, and readers on a panel."""
