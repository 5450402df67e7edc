"""The coordinator's machinery: provisioning, the SuperLink, the roster, the launch."""
