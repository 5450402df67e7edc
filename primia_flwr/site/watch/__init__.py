"""What the staff of a site sees while it runs: a line for each request, and alerts of their own.

Reads the site's log, which says everything anyhow. Imports the log and the policy; `site.run`
imports it.
"""
