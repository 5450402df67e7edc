"""The chapters of a run's report, one a file: words and tables from what the run wrote.

Imports `runs` and the plots; the report and the commands that show one chapter import it.
"""
