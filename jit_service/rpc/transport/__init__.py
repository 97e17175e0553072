"""The transport pygrpc-native, and the batches in which it answers checks."""
