"""The mods around the handlers: what may leave a site in which mode, one file a mode.

`secagg` masks, `dp` and what it calls charge the ledger and add noise, `search` applies a trial's
values, `discretion` makes one error of all, `leaving` holds each reply against the one table.
Imports `clients.site` and the library; the app imports it.
"""
