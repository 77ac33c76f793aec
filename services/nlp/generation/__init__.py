"""Text generation with continuous batching: what runs, what it remembers, how it chooses and spells."""
