"""The site's half of the Flower app: answers the coordinator's messages on the site's own data."""
