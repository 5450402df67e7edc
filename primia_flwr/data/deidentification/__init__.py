"""Copies of images in which nothing names a patient: headers, pictures' metadata, names of files.

What is kept is listed, and everything else goes; a copy counts only if it shows the same pixels.
Imports `data.files`, `data.reading` and `data.pseudonyms`; the command line imports it.
"""
