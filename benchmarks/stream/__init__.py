"""What `serve_stream` is made of: a model, its orders, a replica, and transformers' own generate."""
