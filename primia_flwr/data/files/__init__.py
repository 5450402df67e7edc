"""Image files: found, decoded (DICOM too), contrast evened out, and kept decoded.

Every file is somebody else's: it is read or refused in one sentence. Imports the configuration and
`storage`; the rest of `data` and encrypted inference import it.
"""
