"""What tracing costs: a model that computes for 5 ms, and an endpoint that takes spans and drops them."""
