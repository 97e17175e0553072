"""TODO jit_service/runtime"""
