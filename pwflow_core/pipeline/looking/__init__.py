"""What a person sees of a plant without a query: its status, and a summary after a run."""
