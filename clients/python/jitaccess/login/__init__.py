"""How a person or a job comes by the token that proves it: log in, keep the tokens, renew them, ask a platform.

`code_flow` and `device_flow` log a person in at the provider that the service names (`resource`, `provider`). `keeping`
has the tokens from then on, and `renewal` is the source that calls take them from. `workload` gets the token that a
platform gives to its jobs.
"""
