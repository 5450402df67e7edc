"""Sites that lie: what flipped labels, boosted updates and back doors do under each rule.

`liars` says what a liar sends, `answers` what a rule makes of all that came, `federation` runs the
rounds in this process, `report` writes it down. Imports the library; the command line imports it.
"""
