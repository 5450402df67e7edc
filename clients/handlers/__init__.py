"""The handlers: what a message brings, one round of work, and the answer.

A handler opens the site, calls the library and packs the reply; it decides nothing about
privacy. Imports `clients.site` and the library; the app and the mods import it.
"""
