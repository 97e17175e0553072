"""TODO jit_service/rpc/envoy"""
