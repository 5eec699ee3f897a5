"""Records of scores, what checks them, and the ranking made of them."""
