"""What other Envoys ask of the service: ext_authz and ext_proc."""
