"""Mutually authenticated lines between the parties, and the frames and messages on them.

Every byte from outside is read here, or refused in one sentence. Imports no other room of
`inference`; preprocessing, protocol, crypten, service and the provisioning import it.
"""
