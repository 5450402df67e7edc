"""The search for hyper-parameters over whole runs: `primia train -m sweep=<choice>`."""
