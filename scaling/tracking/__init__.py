"""The motion-tracking environment: physics, reference, rewards, terminations, metrics and protocols."""
