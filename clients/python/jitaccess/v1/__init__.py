"""Generated messages and stubs of the contract; `make proto` writes everything here but this file."""
