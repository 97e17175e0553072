"""What `make mutants` reads: how the tests run in it, and which mutants survive for a reason."""
