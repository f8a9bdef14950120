"""The pages of the report, one module each: facts in, what the template shows out."""
