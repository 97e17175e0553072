"""The generated code of Envoy's external authorization API."""
