"""TODO jit_service/feeds"""
