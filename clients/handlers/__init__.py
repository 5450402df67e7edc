"""The handlers of the coordinator's messages, on the site's own data."""
