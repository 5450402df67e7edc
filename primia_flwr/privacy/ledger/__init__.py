"""The privacy ledger of a site: what was released about whom, never twice, never unpaid.

`ledger` charges, `view` only reads, `account` adds up, `people` and `planned_runs` say who and
what, `file` and `folder` keep it. Imports accounting and `storage`, and scipy only when it counts;
the site's app and `cli/privacy` import it.
"""
