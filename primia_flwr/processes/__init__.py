"""Children of this process: started, watched, stopped, and never left behind.

Knows neither Flower nor the configuration. Imports errors alone; `flower`, `site`, `trials` and
both apps import it.
"""
