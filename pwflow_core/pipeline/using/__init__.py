"""The models in use, applied elsewhere: to single files that stay out of the warehouse, and to draw readings."""
