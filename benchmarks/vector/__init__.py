"""The smallest service that the runtime can serve: what a call costs beside the model."""
