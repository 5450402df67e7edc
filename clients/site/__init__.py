"""One opened site: its data, its identity, its ledger, and what it keeps between rounds.

Nothing of it leaves the site by itself. Imports the library, and neither mods nor handlers,
both of which import it.
"""
