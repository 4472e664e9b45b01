"""Studies: what to vary, the stages that make it, and the table, law, report and policy that come out."""
