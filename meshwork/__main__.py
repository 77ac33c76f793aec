"""`python -m meshwork` is the `meshwork` command."""

from meshwork.cli.app import main

if __name__ == "__main__":
    main(prog_name="meshwork")
