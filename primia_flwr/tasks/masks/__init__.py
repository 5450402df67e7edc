"""What segmentation consists of: its loss, its counts, its scores and how they are shown.

Only here and in `segmentation` does anybody speak of masks' classes. The first class is the
background: it is called and counted like the others, and left out of every mean over classes.
"""

PIXELS, DICE, CASES = "pixel-counts", "dice-sums", "cases"
"""Names of what travels: pixels of class i called class j, row by row; sums of Dice over images;
images in which a class is true or called. The last two of each class but the background."""

MILLIONTHS = 1_000_000
"""In which Dice, a number in [0, 1], is rounded to travel."""
