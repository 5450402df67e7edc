"""The architectures, one a file with its whole row; the registry finds them by their name.

Imports the layers of `models`; nobody imports one of them by name.
"""
