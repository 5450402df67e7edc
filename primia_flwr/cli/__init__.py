"""The command line, `primia <verb> [key=value ...]`: one verb a file."""
