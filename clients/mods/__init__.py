"""The mods around the handlers: what may leave a site in which mode."""
