"""Experts: one policy per motion cluster, all of them trained in one vmapped program."""
