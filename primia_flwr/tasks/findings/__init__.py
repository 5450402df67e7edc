"""What a task of several findings an image consists of: its loss, its counts, its scores.

Only here and in `multilabel` does anybody speak of findings. A label is 1 (present), 0 (absent) or
-1: unknown, which no loss and no figure ever counts.
"""

UNKNOWN = -1

SCORES = "score-counts"
"""Name of what travels: of each finding, the absent and then the present images by score."""

BINS = 128
"""Of the logit, equally wide from -8 to 8; the first and the last take what lies beyond."""
