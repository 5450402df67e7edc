"""The Flower App Bundle as a site receives, looks at, approves and keeps it.

Nothing of a bundle is run or unpacked before it was approved. Imports the site's policy and log,
and `storage`; the rest of `site` and `cli/site` import it.
"""
