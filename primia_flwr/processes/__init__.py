"""Children of this process: started, watched, stopped, and never left behind."""
