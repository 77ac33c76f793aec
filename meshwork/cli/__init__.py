"""The `meshwork` command."""
