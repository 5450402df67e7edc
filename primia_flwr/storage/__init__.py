"""Files that survive a crash: whole or absent, appended or not, read strictly."""
