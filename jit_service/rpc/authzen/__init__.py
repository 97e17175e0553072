"""TODO jit_service/rpc/authzen"""
