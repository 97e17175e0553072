"""TODO jit_service/rpc/services"""
