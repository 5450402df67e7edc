"""The lists and numbers that a site remembers, so that no two sums can be subtracted.

`journal` is the file, `member_lists` and `round_numbers` its rules. Imports `storage` only; the
protocol, `runs` and the site's app import it.
"""
