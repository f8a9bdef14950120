"""The charts of the report: arrays in, SVG or PNG out. Nothing here knows the warehouse or the page."""
