"""Generated messages and stubs of AuthZEN's API; `make proto` writes everything here but this file."""
