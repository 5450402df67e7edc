"""Keys, certificates and kits of a federation and of an inference service.

One call makes all files of all parties; later calls change a service or take in identities that
sites made. Imports the configuration, `flower` and the credentials of `inference.transport`; the
command line and the trials import it.
"""
