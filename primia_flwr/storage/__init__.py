"""Files that survive a crash: whole or absent, appended or not, read strictly.

`atomic` writes, `journal` and `chain` grow, `reading` reads what others wrote, `plain_csv` and
`printable` make it safe to look at. Imports errors alone; every room may import it.
"""
