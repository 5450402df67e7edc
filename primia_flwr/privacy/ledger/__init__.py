"""The privacy ledger of a site: releases, people, plans, and their files."""
