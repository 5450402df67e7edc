"""`primia privacy plan`, `show` and `verify`: what privacy costs, what is spent, is it unchanged.

Reads ledgers and changes none. Imports `privacy.accounting` and `privacy.ledger`.
"""
