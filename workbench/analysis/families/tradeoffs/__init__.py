"""Trade-offs: quality against cost, and the frontier of both."""
