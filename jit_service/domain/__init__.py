"""The rules: pure functions over frozen facts. No I/O, no clock; every instant is passed in as aware UTC."""
