"""The mods around the handlers: what may leave a site in which mode, one file a mode.

`secagg` masks, `dp` and `dp_statistics` charge the ledger and add noise, `search` applies a
trial's values, `discretion` makes one error of all. Imports `clients.site` and the library;
the app imports it.
"""
