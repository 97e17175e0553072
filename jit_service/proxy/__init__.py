"""TODO jit_service/proxy"""
