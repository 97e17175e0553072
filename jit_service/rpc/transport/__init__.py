"""TODO jit_service/rpc/transport"""
