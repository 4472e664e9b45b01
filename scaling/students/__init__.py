"""Students: the causal networks of every size that a study distils, their exact costs and their step-wise decoding."""
