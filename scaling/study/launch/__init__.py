"""Launchers: each only starts workers (`scaling sweep work`), which find their work in the store by themselves."""
