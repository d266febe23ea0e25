"""Files of published data sets, read without what wrote them."""
