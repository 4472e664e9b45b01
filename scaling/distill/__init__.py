"""Distillation: many students at once learn from the expert bank by DAgger, each on its own arm of the data."""
