"""The command line: how soon a mistake is answered.

`mistakes` is the table of them that the tests run, too; `time_mistakes` measures.
"""
