"""The OpenID provider of `up --dev`: whoever opens its page says who they are, so it is for loopback only.

`server` speaks HTTP on a Unix socket behind Envoy; `provider` has the endpoints. `authorization`, `interactions` and
`sessions` log people in in a browser, `devices` on another device, and `granting` gives the tokens.
"""
