"""Every call of the contract, built once for both clients: from Python arguments to a message, and back.

A module for each service. A grant is given by its name (`grants/ID`), by its id, or as a Grant that was read; all
else by its name or id. A write carries a request_id, a fresh UUID unless one is given, so that sending it again does
not do it twice (AIP-155). All raise InvalidArgument, before anything is sent, for what no message can hold.
"""
