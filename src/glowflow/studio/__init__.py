"""The studio: a page where one plays with a model, and its REST API; thin over the library."""
