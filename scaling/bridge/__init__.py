"""From a policy folder to a moving G1: runtime, safety, transports, and the simulated robot behind the same door."""
