"""What a simulated federation is compared with, trained one after another or side by side.

`compared` says which models there are and yields them, `one` trains one of them, `lanes` deals them
to processes, `beside` watches these, `process` is one of them, `handed` what they tell each other.
"""
